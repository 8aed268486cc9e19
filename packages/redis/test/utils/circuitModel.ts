/**
 * The circuit of a fleet as pure TypeScript: what the scripts must answer. Times are microseconds of the server.
 */
export interface Settings {
  readonly bucket: number
  readonly window: number
  readonly minimum: number
  readonly failureRate: number
  readonly slowRate: number
  readonly quorum: number
}

export interface Model {
  readonly st: number
  readonly ep: number
  readonly ou: number
  /** How long it is open, or the longest lease of a probe. */
  readonly ln: number
  readonly k: number
  readonly op: number
  readonly ok: number
  readonly no: number
  readonly closedAt: number
  readonly votes: ReadonlyMap<number, readonly [calls: number, failures: number, slow: number]>
  readonly active: ReadonlyMap<string, number>
  readonly failing: ReadonlyMap<string, number>
  readonly tripped: ReadonlyMap<string, number>
  readonly probes: ReadonlyMap<string, number>
}

const nothing = { votes: new Map(), active: new Map(), failing: new Map(), tripped: new Map(), probes: new Map() }

export const empty: Model = { st: 0, ep: 0, ou: 0, ln: 0, k: 0, op: 0, ok: 0, no: 0, closedAt: 0, ...nothing }

const go = (m: Model, now: number, st: number, length: number, k: number, op: number): Model => ({
  st,
  ep: Math.max(m.ep + 1, now),
  ou: length < 0 ? Infinity : now + length,
  ln: Math.max(length, 0),
  k,
  op,
  ok: 0,
  no: 0,
  closedAt: st === 0 ? now : m.closedAt,
  ...nothing
})

export const left = (m: Model, now: number): number =>
  m.st !== 1 && m.st < 3 ? 0 : m.ou === Infinity ? -1 : Math.max(m.ou - now, 0)

/** What is over when anybody asks. Where the clock was set back, nothing lasts longer than it was to. */
const begin = (before: Model, now: number, advisory: boolean): Model => {
  const lasts = before.st === 1 || before.st >= 3
  const isLonger = lasts && before.ou !== Infinity && before.ou - now > before.ln
  const closedAt = Math.min(before.closedAt, now)
  const m = isLonger || closedAt < before.closedAt
    ? { ...before, closedAt, ou: isLonger ? now + before.ln : before.ou }
    : before
  return (m.st >= 3 || (m.st === 1 && advisory)) && now >= m.ou ? go(m, now, 0, 0, m.k, m.op * 2) : m
}

const since = <K>(map: ReadonlyMap<K, number>, start: number): Map<K, number> =>
  new Map([...map].filter(([, at]) => at > start))

const until = <K>(map: ReadonlyMap<K, number>, end: number): Map<K, number> =>
  new Map([...map].filter(([, at]) => at <= end))

export interface Report {
  readonly instance: string
  readonly epoch: number
  readonly calls: number
  readonly failures: number
  readonly slow: number
  readonly failing: boolean
  readonly tripped: boolean
  readonly length: number
}

export const report = (before: Model, r: Report, s: Settings, now: number, advisory: boolean): Model => {
  const m = begin(before, now, advisory)
  if (m.st !== 0 || r.epoch !== m.ep || (r.calls === 0 && !r.tripped)) return m
  const index = Math.floor(now / s.bucket)
  const oldest = Math.floor((now - s.window) / s.bucket)
  const [calls, failures, slow] = m.votes.get(index) ?? [0, 0, 0]
  const votes = new Map(
    [...m.votes, [index, [calls + r.calls, failures + r.failures, slow + r.slow]] as const]
      .filter(([at]) => at > oldest && at <= index)
  )
  const put = (map: ReadonlyMap<string, number>, is: boolean, not = map) =>
    until(since(is ? new Map([...map, [r.instance, now]]) : not, now - s.window), now)
  const others = new Map([...m.failing].filter(([who]) => who !== r.instance))
  const active = put(m.active, true)
  const failing = put(m.failing, r.failing || r.tripped, others)
  const tripped = put(m.tripped, r.tripped)
  const sum = (i: 0 | 1 | 2) => [...votes.values()].reduce((all, vote) => all + vote[i], 0)
  const pooled = sum(0) >= s.minimum && (sum(1) / sum(0) >= s.failureRate || sum(2) / sum(0) >= s.slowRate)
  const alone = tripped.size >= s.quorum && tripped.size / active.size >= s.failureRate
  if (failing.size >= s.quorum && (pooled || alone)) {
    return go(m, now, 1, r.length, m.k > 0 && now - m.closedAt >= s.window ? 1 : m.k + 1, 0)
  }
  return { ...m, votes, active, failing, tripped }
}

export const probe = (
  before: Model,
  id: string,
  most: number,
  lease: number,
  now: number,
  advisory: boolean
): readonly [granted: boolean, full: number, Model] => {
  let m = begin(before, now, advisory)
  if (m.st === 1 && now >= m.ou) m = go(m, now, 2, 0, m.k, 0)
  if (m.st !== 2) return [false, 0, m]
  const ln = Math.max(m.ln, lease)
  const probes = new Map([...since(m.probes, now)].map(([id, end]) => [id, Math.min(end, now + ln)]))
  if (probes.size > 0 && probes.size + m.ok + m.no >= most) {
    return [false, Math.max(Math.min(...probes.values()) - now, 1), { ...m, ln, probes }]
  }
  return [true, 0, { ...m, ln, probes: probes.set(id, now + lease) }]
}

export const result = (
  before: Model,
  r: { readonly id: string; readonly epoch: number; readonly outcome: string; readonly length: number },
  most: number,
  need: number,
  now: number,
  advisory: boolean
): Model => {
  const m = begin(before, now, advisory)
  if (m.st !== 2 || r.epoch !== m.ep || (m.probes.get(r.id) ?? 0) <= now) return m
  const probes = new Map([...m.probes].filter(([id]) => id !== r.id))
  const ok = m.ok + (r.outcome === "success" ? 1 : 0)
  const no = m.no + (r.outcome === "failure" ? 1 : 0)
  if (r.outcome === "open" || no > most - need) return go(m, now, 1, r.length, m.k + 1, 0)
  return ok >= need ? go(m, now, 0, 0, m.k, 0) : { ...m, ok, no, probes }
}

export const command = (
  before: Model,
  epoch: number,
  to: number,
  length: number,
  now: number,
  advisory: boolean
): readonly [done: boolean, Model] => {
  const m = begin(before, now, advisory)
  return m.op !== 1 || epoch === m.ep ? [true, go(m, now, to, length, 0, 1)] : [false, m]
}
