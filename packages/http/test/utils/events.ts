import { Effect, Schedule } from "effect"
import * as http from "node:http"

/** One server-sent event. */
export interface Told {
  readonly event: string
  readonly id: string | undefined
  readonly data: any
}

/** Reads the text of an event stream, whole events only. */
export const parseEvents = (text: string): ReadonlyArray<Told> =>
  text.split("\n\n").slice(0, -1).flatMap((block) => {
    const fields = new Map(
      block.split("\n").filter((line) => !line.startsWith(":")).map((line) => {
        const [, name = "", value = ""] = /^(\w+): ?(.*)$/.exec(line) ?? []
        return [name, value]
      })
    )
    const data = fields.get("data")
    return data === undefined
      ? []
      : [{ event: fields.get("event") ?? "message", id: fields.get("id"), data: JSON.parse(data) }]
  })

/** A viewer over a socket of its own, for the length of the scope. */
export const openViewer = (url: string, headers: Record<string, string> = {}) =>
  Effect.acquireRelease(
    Effect.promise(() =>
      new Promise<{
        readonly response: http.IncomingMessage
        readonly request: http.ClientRequest
        readonly text: () => string
        readonly told: () => ReadonlyArray<Told>
        readonly ended: () => boolean
      }>((resolve, reject) => {
        const request = http.request(url, { agent: false, headers }, (response) => {
          let text = ""
          let ended = false
          response.setEncoding("utf8")
          response.on("data", (chunk: string) => text += chunk)
          response.on("error", () => {})
          response.on("close", () => ended = true)
          resolve({ response, request, text: () => text, told: () => parseEvents(text), ended: () => ended })
        })
        request.on("error", reject)
        request.end()
      })
    ),
    ({ request }) => Effect.sync(() => request.destroy())
  )

/** Waits for what comes over a socket; one that never comes is a timeout. */
export const eventually = <A>(what: () => A | undefined | false): Effect.Effect<A> =>
  Effect.suspend(() => {
    const found = what()
    return found === undefined || found === false ? Effect.fail("not yet") : Effect.succeed(found as A)
  }).pipe(
    Effect.retry(Schedule.spaced("5 millis")),
    Effect.timeout("10 seconds"),
    Effect.orDie
  )
