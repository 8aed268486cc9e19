import type { Simulation } from "../../testing.js"
import { fairField } from "../fair.js"
import * as option from "../options.js"

/** A law over time is the user's; a number is looked at. */
const law = (fallback: number): option.Field<Simulation.Law, Simulation.Law> => {
  const parse = option.parseNumber({ min: 0 })
  return option.field<Simulation.Law, Simulation.Law>(
    fallback,
    (input) => typeof input === "function" ? input : parse(input)
  )
}
const millis = option.number(Infinity, { above: 0, infinite: true })

const runFields = {
  seed: option.integer(0, {}),
  duration: option.number(NaN, { above: 0 }),
  sampleEvery: option.number(100, { above: 0 })
}
const text = option.field<string, string>("", (input) => {
  if (typeof input === "string") return input
  throw new option.Requirement("a string")
})
const arrivalFields = { rate: law(NaN), key: text }
const workersFields = {
  workers: option.integer(NaN, { min: 1 }),
  slowdown: law(1),
  delay: law(0),
  contention: option.number(0, { min: 0 }),
  failure: law(0),
  down: law(0)
}
const loopFields = {
  slices: option.integer(NaN, { min: 1 }),
  cpu: option.number(NaN, { above: 0 }),
  io: option.number(NaN, { min: 0 }),
  rejection: option.number(NaN, { min: 0 })
}
const clientFields = { timeout: millis, deadline: millis }
const retryFields = {
  retries: option.integer(NaN, { min: 0 }),
  delay: option.number(50, { min: 0 }),
  maxDelay: option.number(5000, { min: 0 })
}
const queueFields = {
  size: option.integer(NaN, { min: 0 }),
  maxWait: option.number(100, { min: 0 }),
  fair: fairField
}

/**
 * A number that is none would make a simulation run for ever, or tell nonsense. Throws an `InvalidOptionError` for the
 * first of them; names are left to the types.
 *
 * @internal
 */
export const check = <State>({ arrivals, client, protection, server, ...options }: Simulation.Options<State>): void => {
  const look = <F extends Record<string, option.Field<any, any>>>(part: string, fields: F, given: object) =>
    option.resolve("Simulation", part, fields, option.pick(given as { readonly [K in keyof F]?: unknown }, fields))
  look("run", runFields, options)
  for (const arrival of arrivals) look("arrivals", arrivalFields, arrival)
  look("server", server._tag === "Workers" ? workersFields : loopFields, server)
  if (client !== undefined) look("client", clientFields, client)
  if (client?.retry !== undefined) look("retry", retryFields, client.retry)
  if (protection?.queue !== undefined) look("queue", queueFields, protection.queue)
}
