/**
 * Seeded random numbers. Each part of a simulation draws from a stream of its own, so that two policies meet the same
 * arrivals and the same work.
 *
 * Source: sfc32 of PractRand (Chris Doty-Humphrey).
 *
 * @internal
 */
export class SeededRandom {
  private a: number
  private b: number
  private c = 0x9e3779b9
  private counter = 1

  constructor(seed: number, stream: number) {
    this.a = seed | 0
    this.b = Math.imul(stream + 1, 0x85ebca6b)
    // Seeds that are near one another become unlike.
    for (let i = 0; i < 15; i++) this.next()
  }

  /** From 0 to 1, never 1. */
  next(): number {
    const sum = (this.a + this.b + this.counter) | 0
    this.counter = (this.counter + 1) | 0
    this.a = this.b ^ (this.b >>> 9)
    this.b = (this.c + (this.c << 3)) | 0
    this.c = ((this.c << 21) | (this.c >>> 11)) + sum | 0
    return (sum >>> 0) / 4294967296
  }

  /** Exponential, of mean 1. */
  exponential(): number {
    return -Math.log(1 - this.next())
  }

  /** Normal, of mean 0 and deviation 1 (Box and Muller). */
  normal(): number {
    return Math.sqrt(2 * this.exponential()) * Math.cos(2 * Math.PI * this.next())
  }
}
