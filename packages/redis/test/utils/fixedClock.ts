import type { RedisConnection } from "@effect-resilience/redis"
import type { Script } from "../../src/internal/script.js"
import { script } from "../../src/internal/script.js"

const prelude = script("", "").text.length

/** What stands in a script after the time is read. */
export const bodyOf = ({ text }: Script): string => text.slice(prelude)

const changed = new Map<string, Script>()

/** The same script with another body. */
export const withBody = (original: Script, change: (body: string) => string): Script => {
  const known = changed.get(original.sha) ?? script(original.name, change(bodyOf(original)))
  changed.set(original.sha, known)
  return known
}

/** By the time that is the last argument, to the microsecond; and no key expires while real time runs on. */
const fixed = (body: string) =>
  "now = tonumber(table.remove(ARGV))\n" +
  body.replaceAll("'PX', ", "'PX', 600000 + ").replaceAll(/'PEXPIRE', ([a-z.]+), /g, "'PEXPIRE', $1, 600000 + ")

/** A connection whose scripts have the time that a test says. */
export const atFixedTime = (redis: RedisConnection.Service, micros: () => number): RedisConnection.Service => ({
  ...redis,
  run: (original, keys, args) => redis.run(withBody(original, fixed), keys, [...args, micros()]),
  unsafeRun: (original, keys, args, settled) =>
    redis.unsafeRun(withBody(original, fixed), keys, [...args, micros()], settled)
})
