/**
 * The fair queue: one limit that many share, and nobody takes it all. `Bulkhead` and `AdaptiveConcurrency` have it by their
 * option `fair`, and `withPermitBy({ key })` says whose call it is: a tenant's, a user's.
 *
 * Who is next is fair between keys first:
 *
 * - a permit that is free goes to a key that has least for its weight, so that all get their max-min share: what one does
 *   not want the others may have;
 * - among those it goes round, in permits and not in calls (deficit round robin);
 * - a full queue turns away from the longest line, so that a noisy key waits for itself.
 *
 * The ambient `Priority` counts within a key: its own line serves the highest first and turns the lowest away. Nobody gains
 * on others by calling everything critical. The order of the queue (`fifo`, `lifo`, `adaptive`) is that of each line.
 *
 * Keys are known only while their calls run or wait; calls without a key share a line.
 *
 * Source: "Efficient Fair Queueing Using Deficit Round-Robin" (Shreedhar, Varghese, 1996).
 *
 * @since 0.1.0
 */

/**
 * @since 0.1.0
 */
export declare namespace FairQueue {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /**
     * How much of the limit a key gets while others want it: so many times the share of a key of weight 1. From 0.01 to
     * 100; asked once for each guard, and a weight that is none is a bug that throws there. Defaults to `1` for all.
     */
    readonly weight?: ((key: string) => number) | undefined
  }
}
