import type { Fleet } from "@effect-resilience/core"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { RedisConnection } from "../../RedisConnection.js"
import type { RedisUnavailableError } from "../../RedisUnavailableError.js"
import { script } from "../script.js"
import { readReport } from "./report.js"

/*
 * Where processes leave their reports: a key for each that expires by itself, and an index of when each was heard.
 */

// KEYS: index, own report. ARGV: id, report, life of the report, how long it is remembered.
const tell = script(
  "fleet.tell",
  `local at = math.floor(now / 1000)
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[1], at, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', at - ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1`
)

const leave = script("fleet.leave", `redis.call('DEL', KEYS[2])\nreturn redis.call('ZREM', KEYS[1], ARGV[1])`)

// The newest first, each with the milliseconds since it was heard.
const list = script(
  "fleet.list",
  `local at = math.floor(now / 1000)
local heard = redis.call('ZREVRANGE', KEYS[1], 0, ARGV[1] - 1, 'WITHSCORES')
for i = 2, #heard, 2 do heard[i] = math.max(0, at - heard[i]) end
return heard`
)

/** How long one that is gone is still shown, in milliseconds. */
const remembered = 60_000
/** Processes that are read. */
const most = 500
/** Reports that are read at once: what else this process asks of Redis, and does, comes between. */
const atOnce = 8
/** Reports that one may miss, and a half, before it is late. */
const patience = 2.5

const keys = (redis: RedisConnection.Service, fleet: string) => {
  const index = `${redis.prefix}f:{${fleet}}`
  return { index, report: (id: string) => `${index}:p:${id}` }
}

/** @internal */
export interface Telling {
  readonly redis: RedisConnection.Service
  readonly fleet: string
  readonly expireAfter: number
}

/** @internal */
export const tellOf = ({ expireAfter, fleet, redis }: Telling, report: string) => {
  const { index, report: key } = keys(redis, fleet)
  return redis.run(tell, [index, key(redis.id)], [redis.id, report, expireAfter, expireAfter + remembered])
}

/** @internal */
export const leaveOf = ({ fleet, redis }: Telling) => {
  const { index, report } = keys(redis, fleet)
  return redis.run(leave, [index, report(redis.id)], [redis.id])
}

/** What is known of a process by its report, which may have expired. @internal */
export const processOf = (id: string, age: number, report: unknown): Fleet.Process => {
  const known = { id, age: Duration.millis(age) }
  const nothing = { label: id, instances: [], omitted: 0 }
  if (report === null || report === undefined) {
    return { ...known, ...nothing, status: "Gone", problem: Option.none() }
  }
  const read = readReport(String(report))
  if (read === undefined) {
    const problem = Option.some("its report cannot be read here: it may be of another version")
    return { ...known, ...nothing, status: "Live", problem }
  }
  const { instances, interval, label, omitted } = read
  const status = age > patience * interval ? "Late" : "Live"
  return { ...known, label, instances, omitted, status, problem: Option.none() }
}

/** All processes, the one that was heard last first: a round trip for the list, and one for a few reports each. @internal */
export const readAll = (
  redis: RedisConnection.Service,
  fleet: string
): Effect.Effect<ReadonlyArray<Fleet.Process>, RedisUnavailableError> =>
  Effect.gen(function*() {
    const { index, report } = keys(redis, fleet)
    const heard = (yield* redis.run(list, [index], [most])) as ReadonlyArray<unknown>
    const ids = heard.filter((_, i) => i % 2 === 0).map(String)
    const processes: Array<Fleet.Process> = []
    for (let from = 0; from < ids.length; from += atOnce) {
      const few = ids.slice(from, from + atOnce)
      const reports = (yield* redis.command("mget", ...few.map(report))) as ReadonlyArray<unknown>
      few.forEach((id, i) => processes.push(processOf(id, Number(heard[2 * (from + i) + 1]), reports[i])))
    }
    return processes
  })
