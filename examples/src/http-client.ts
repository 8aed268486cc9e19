/** A real HTTP call, protected, with typed errors. */
import { Resilience } from "@effect-resilience/core"
import { FetchHttpClient, HttpClient, HttpClientResponse } from "@effect/platform"
import { Console, Effect } from "effect"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"

/** A server on loopback that fails twice and answers then. */
const server = Effect.acquireRelease(
  Effect.async<string>((resume) => {
    let requests = 0
    const server = createServer((_, response) => {
      response.writeHead(++requests <= 2 ? 503 : 200).end(`request ${requests}`)
    })
    server.listen(0, "127.0.0.1", () => {
      resume(Effect.succeed(`http://127.0.0.1:${(server.address() as AddressInfo).port}`))
    })
    server.unref()
  }),
  () => Effect.void
)

const program = Effect.gen(function*() {
  const url = yield* server
  const api = yield* Resilience.standard({ name: "api", timeout: "1 second", retry: { initialDelay: "20 millis" } })

  const get = HttpClient.get(url).pipe(
    Effect.flatMap(HttpClientResponse.filterStatusOk),
    Effect.flatMap((response) => response.text),
    Effect.scoped,
    api.protect
  )
  const answer = yield* get.pipe(
    Effect.catchTags({
      CircuitOpenError: (error) => Effect.succeed(`the circuit is open: ${error.reason}`),
      BulkheadFullError: () => Effect.succeed("too many calls at once"),
      TimeoutExceededError: (error) => Effect.succeed(error.message)
    })
  )
  const { retries } = yield* api.retry.metrics
  yield* Console.log(`${answer}, after ${retries} retries`)
})

Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(FetchHttpClient.layer)))
