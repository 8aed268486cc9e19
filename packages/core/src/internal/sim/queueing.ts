/** The states of M/M/c/K as shares of time. `load` is offered over capacity. */
const shares = (workers: number, load: number, places: number): Array<number> => {
  const offered = load * workers
  const shares = [1]
  let last = 1
  let sum = 1
  for (let n = 1; n <= places; n++) {
    last *= offered / Math.min(n, workers)
    // Kept small, so that hundreds of workers do not overflow.
    if (last > 1e200) {
      for (let i = 0; i < shares.length; i++) shares[i] = (shares[i] as number) / 1e200
      last /= 1e200
      sum /= 1e200
    }
    shares.push(last)
    sum += last
  }
  return shares.map((share) => share / sum)
}

/** Share of requests lost. @internal */
export const loss = (workers: number, load: number, places: number): number => shares(workers, load, places).at(-1) ?? 1

/** Throughput over capacity. @internal */
export const throughput = (workers: number, load: number, places: number): number =>
  load * (1 - loss(workers, load, places))

/** Mean number of requests inside. @internal */
export const meanInside = (workers: number, load: number, places: number): number =>
  shares(workers, load, places).reduce((sum, share, n) => sum + share * n, 0)

/** Share of requests that wait, without a bound on the queue (Erlang C). @internal */
export const waits = (workers: number, load: number): number => {
  // Erlang B by its recursion, which does not overflow.
  let lost = 1
  for (let n = 1; n <= workers; n++) lost = load * workers * lost / (n + load * workers * lost)
  return lost / (1 - load * (1 - lost))
}

/** The smallest limit that lets through so much of what there is to have. @internal */
export const best = (workers: number, load: number, share: number): number => {
  let places = workers
  while (throughput(workers, load, places) < share * Math.min(1, load) && places < 100 * workers) places++
  return places
}
