/** The load: a process of its own, which is told what to do, does it, and tells what came of it. */
import autocannon from "autocannon"
import { connect } from "node:net"

/** What there is to do, for so many seconds. */
export interface Order {
  readonly port: number
  readonly seconds: number
  /** Requests per second; as many as there can be, where there is none. */
  readonly rate?: number
}

/** What came of it. */
export interface Yield {
  readonly requests: number
  readonly seconds: number
  /** Milliseconds. */
  readonly p50: number
  readonly p99: number
  /** Everything that is not an answer with 200. */
  readonly bad: number
}

const connections = 48

const quantile = (sorted: Float64Array, q: number) => sorted[Math.floor((sorted.length - 1) * q)] ?? NaN
const summary = (latencies: ReadonlyArray<number>, seconds: number, bad: number): Yield => {
  const sorted = Float64Array.from(latencies).sort()
  return { requests: sorted.length, seconds, p50: quantile(sorted, 0.5), p99: quantile(sorted, 0.99), bad }
}

/** As many requests as there can be: each connection sends its next when it has its answer. */
const saturate = ({ port, seconds }: Order): Promise<Yield> =>
  new Promise((resolve, reject) => {
    const latencies: Array<number> = []
    const start = performance.now()
    const run = autocannon(
      { url: `http://127.0.0.1:${port}/`, connections, pipelining: 1, duration: seconds, sampleInt: 100 },
      (error: unknown, result) => {
        if (error) return reject(error)
        const bad = result.errors + result.non2xx + result.timeouts + (result["2xx"] - (counts.get(200) ?? 0))
        resolve(summary(latencies, (performance.now() - start) / 1000, bad))
      }
    )
    const counts = new Map<number, number>()
    // autocannon's own latencies are whole milliseconds.
    run.on("response", (_client, status, _bytes, millis) => {
      counts.set(status, (counts.get(status) ?? 0) + 1)
      latencies.push(millis)
    })
  })

const request = "GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
const end = Buffer.from("\r\n\r\n")
/** How long an answer is, once its head is there. */
const lengthOf = (bytes: Buffer): number | undefined => {
  const head = bytes.indexOf(end)
  if (head < 0) return undefined
  const found = /\r\ncontent-length: *(\d+)/i.exec(bytes.toString("latin1", 0, head))
  return head + end.length + Number(found?.[1] ?? NaN)
}

/**
 * So many requests per second, evenly. autocannon would send those of a second at once and then wait. A latency counts
 * from when its request was due, so that a server that stands still does not keep requests from being late.
 */
const pace = async ({ port, rate = 1, seconds }: Order): Promise<Yield> => {
  const latencies: Array<number> = []
  let bad = 0
  const idle: Array<(due: number) => void> = []
  const due: Array<number> = []
  const sockets = await Promise.all(
    Array.from({ length: connections }, () =>
      new Promise<ReturnType<typeof connect>>((resolve, reject) => {
        const socket = connect(port, "127.0.0.1", () => resolve(socket)).setNoDelay(true).on("error", reject)
        let received: Buffer = Buffer.alloc(0)
        let since = 0
        const send = (at: number) => {
          since = at
          socket.write(request)
        }
        idle.push(send)
        socket.on("data", (chunk: Buffer) => {
          received = received.length === 0 ? chunk : Buffer.concat([received, chunk])
          const length = lengthOf(received)
          if (length === undefined || received.length < length) return
          latencies.push(performance.now() - since)
          if (received.toString("latin1", 0, 12) !== "HTTP/1.1 200" || received.length !== length) bad++
          received = Buffer.alloc(0)
          const next = due.shift()
          if (next === undefined) idle.push(send)
          else send(next)
        })
      }))
  )
  const start = performance.now()
  const total = Math.floor(rate * seconds)
  await new Promise<void>((resolve) => {
    let sent = 0
    const turn = () => {
      const now = performance.now()
      while (sent < total && start + sent * 1000 / rate <= now) {
        const at = start + sent++ * 1000 / rate
        const send = idle.pop()
        if (send === undefined) due.push(at)
        else send(at)
      }
      const isOver = latencies.length === total || now > start + seconds * 1000 + 5000
      // Turns without a timer: one of a millisecond would be later than the answers.
      if (isOver) resolve()
      else setImmediate(turn)
    }
    turn()
  })
  for (const socket of sockets) socket.destroy()
  return summary(latencies, seconds, bad + total - latencies.length)
}

process.on("message", (order: Order) => {
  const work = order.rate === undefined ? saturate(order) : pace(order)
  work.then((result) => process.send?.(result), (error) => {
    console.error(error)
    process.exit(1)
  })
})
process.on("disconnect", () => process.exit(0))
