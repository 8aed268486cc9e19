/**
 * A subject in a process of its own, as a program has it: where all are in one, what the engine learns of one is wrong for
 * the next, and the memory of all is collected in the time of each.
 *
 * Started by `client`, with the URL of the server and the name of the subject; measures what it is told to.
 */
import { fork } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"
import { quantile } from "../report.js"
import type { Load } from "./load.js"
import { run } from "./load.js"
import type { Subject } from "./peers.js"
import { counts } from "./server.js"
import { subjects } from "./subjects.js"

export interface Measured {
  readonly perSecond: number
  readonly roundTrips: number
  /** Milliseconds. */
  readonly p50: number
  readonly p99: number
  readonly denied: number
  /** Microseconds of processor time for each decision, of this process and of the server. */
  readonly client: number
  readonly server: number
  /** Decisions in a second if each of the two had a core of its own. */
  readonly capacity: number
}

export interface Client {
  readonly measure: (load: Load) => Promise<Measured>
  readonly close: () => Promise<void>
}

const self = fileURLToPath(import.meta.url)

/** Starts the process of a subject, with options of Node. */
export const client = async (url: string, name: string, execArgv: Array<string>): Promise<Client> => {
  const child = fork(self, [url, name], { execArgv })
  const exited = once(child, "exit")
  const failed = exited.then(([code]) => Promise.reject(new Error(`the process of "${name}" ended with ${code}`)))
  failed.catch(() => {})
  const next = async () => (await Promise.race([once(child, "message"), failed]))[0]
  await next()
  return {
    measure: (load) => {
      child.send(load)
      return next()
    },
    close: async () => {
      child.disconnect()
      await exited
    }
  }
}

const measure = async (subject: Subject, load: Load, server: Awaited<ReturnType<typeof counts>>): Promise<Measured> => {
  const snapshot = async () => ({ trips: await server.roundTrips(), cpu: await server.cpu() })
  const { after, before, client, decisions, denied, latencies, seconds, snapped } = await run(
    subject.decide,
    load,
    snapshot
  )
  const ofServer = (after.cpu - before.cpu) / snapped
  return {
    client,
    server: ofServer,
    roundTrips: (after.trips - before.trips) / snapped,
    capacity: 1e6 / Math.max(client, ofServer),
    perSecond: decisions / seconds,
    p50: quantile(latencies, 0.5),
    p99: quantile(latencies, 0.99),
    denied: denied / decisions
  }
}

const [, main, url, name] = process.argv
if (main === self && url !== undefined && name !== undefined) {
  const make = subjects[name]
  if (make === undefined) throw new Error(`no subject is called "${name}"`)
  const subject = await make(url)
  const server = await counts(url)
  process.on(
    "message",
    (load: Load) => void measure(subject, load, server).then((measured) => process.send?.(measured))
  )
  process.once("disconnect", () => {
    server.close()
    void subject.close()
  })
  process.send?.("ready")
}
