/** A few requests, and what comes of them. It fails where that is not what it says. */
import { Drain } from "@effect-resilience/http"
import { HttpApiClient, HttpClient, HttpClientRequest, HttpServer } from "@effect/platform"
import { Console, Effect, Fiber, Schedule } from "effect"
import { ShopApi } from "./shop.js"
import { Trouble } from "./warehouse.js"

type Request = HttpClientRequest.HttpClientRequest

/** A client has an address, which the proxy in front of the shop says. */
const from = (client: string) => HttpClientRequest.setHeader("x-forwarded-for", client)
const get = (path: string, client = "198.51.100.1") => HttpClientRequest.get(path).pipe(from(client))

/** An order, and the key by which it is placed once, however often it is sent. */
const order = (id: string, key: string, quantity = 1) =>
  HttpClientRequest.post("/orders").pipe(
    HttpClientRequest.bodyUnsafeJson({ id, quantity }),
    HttpClientRequest.setHeader("idempotency-key", `"${key}"`),
    from("198.51.100.2")
  )

export const tour = Effect.gen(function*() {
  const { reached, become } = yield* Trouble
  const shop = yield* HttpServer.addressFormattedWith((url) =>
    Effect.map(HttpClient.HttpClient, HttpClient.mapRequest(HttpClientRequest.prependUrl(url)))
  )
  const send = (request: Request) =>
    Effect.flatMap(
      shop.execute(request),
      (response) => Effect.map(response.text, (body) => ({ status: response.status, headers: response.headers, body }))
    )

  /** Sends a request and prints what it is told; the status and the header fields have to be there. */
  const show = (title: string, request: Request, status: number, ...fields: ReadonlyArray<string>) =>
    Effect.gen(function*() {
      const answer = yield* send(request)
      const told = fields.map((field) => `  ${field}: ${answer.headers[field]}\n`).join("")
      const [line = ""] = answer.body.split("\n")
      const body = line.length > 100 ? `${line.slice(0, 100)}…` : line
      yield* Console.log(`${title}\n  ${request.method} ${request.url} -> ${answer.status}\n${told}  ${body}\n`)
      if (answer.status !== status || fields.some((field) => answer.headers[field] === undefined)) {
        return yield* Effect.dieMessage(`This was to be ${status} with ${fields.join(", ")}`)
      }
    })
  const check = (title: string, isTrue: boolean) =>
    isTrue ? Console.log(`${title}\n`) : Effect.dieMessage(`Not so: ${title}`)

  yield* show("Served, and told what is left.", get("/products"), 200, "ratelimit")
  yield* show("An error of the API.", get("/products/faust"), 404)

  yield* show("An order,", order("emma", "1"), 201)
  yield* show("sent again: it is not placed again,", order("emma", "1"), 201, "idempotency-replayed")
  yield* show("and its key is for no other order.", order("emma", "1", 2), 422)

  const greedy = "203.0.113.9"
  yield* Effect.all(Effect.replicate(send(get("/products", greedy)), 20), { concurrency: "unbounded" })
  yield* show(
    "A client that asks too much.",
    get("/products", greedy),
    429,
    "retry-after",
    "ratelimit",
    "ratelimit-policy"
  )
  const client = yield* HttpApiClient.makeWith(ShopApi, { httpClient: HttpClient.mapRequest(shop, from(greedy)) })
  const error = yield* Effect.flip(client.products.all())
  yield* check(`The derived client knows what it means: ${error._tag}.`, error._tag === "TooManyRequests")

  yield* become("once")
  const asked = yield* reached
  yield* show("The warehouse fails once: asked again, and not noticed.", get("/products/emma"), 200)
  yield* check("It was asked twice.", (yield* reached) === asked + 2)

  yield* become("slow")
  const orders = yield* Effect.forEach(["2", "3", "4"], (key) => Effect.fork(send(order("emma", key))))
  yield* Effect.sleep("100 millis")
  yield* show("The till serves two at once, and one may wait.", order("emma", "5"), 503, "retry-after")
  yield* Effect.forEach(orders, Fiber.join)

  yield* become("down")
  yield* show("The warehouse is down: the last good answer.", get("/products"), 200, "age", "cache-status")
  yield* show("There is none for an order.", order("emma", "6"), 503)
  yield* Effect.repeat(send(get("/products/emma", "198.51.100.4")), Schedule.recurs(2))
  const before = yield* reached
  yield* show("By now the circuit is open.", order("emma", "7"), 503)
  yield* check("Nobody has asked the warehouse.", before === (yield* reached))

  yield* show("It is as alive as before.", get("/health"), 200)
  yield* show("So is its dashboard.", get("/resilience/"), 200, "content-security-policy")
  const metrics = yield* send(get("/metrics"))
  const rejections = metrics.body.split("\n").filter((line) => line.startsWith("resilience_rejections_total"))
  yield* check(`What was turned away:\n  ${rejections.join("\n  ")}`, rejections.length >= 3)

  yield* become("none")
  yield* Effect.sleep("1100 millis")
  yield* show("The warehouse is back, and the circuit finds out.", order("emma", "8"), 201)

  yield* become("slow")
  const last = yield* Effect.fork(send(order("emma", "9")))
  yield* Effect.sleep("50 millis")
  const drained = yield* Effect.fork(Drain.drain)
  yield* Effect.sleep("50 millis")
  yield* show("The shop goes down. First it says so,", get("/ready"), 503)
  yield* Effect.sleep("100 millis")
  yield* show("then it takes no more requests,", get("/products", "198.51.100.5"), 503, "retry-after", "connection")
  yield* check("and ends what it has begun.", (yield* Fiber.join(last)).status === 201)
  const { interrupted } = yield* Fiber.join(drained)
  yield* check(`${interrupted} requests were lost.`, interrupted === 0)
})
