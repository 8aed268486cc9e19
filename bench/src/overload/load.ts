/** What is asked of a server, and what comes back. */
import * as http from "node:http"

/** One request: times in milliseconds since the load began. */
export interface Shot {
  /** When it was due: its latency counts from here, however late it could be sent. */
  readonly due: number
  readonly latency: number
  /** 0 where there was no answer in time, `unsent` where the load itself came too late. */
  readonly status: number
}

/** The load could not be made: such a run says little of the server. */
export const unsent = -1

/** A part of a load: so many requests a second, for so long. */
export interface Phase {
  readonly perSecond: number
  readonly millis: number
}

const ask = (port: number, agent: http.Agent, timeout: number): Promise<number> =>
  new Promise((resolve) => {
    const request = http.get({ port, host: "127.0.0.1", agent }, (response) => {
      response.resume()
      response.on("close", () => {
        clearTimeout(timer)
        resolve(response.complete ? response.statusCode ?? 0 : 0)
      })
    })
    // Who has waited for so long is gone, and its connection with it.
    const timer = setTimeout(() => request.destroy(), timeout)
    request.on("error", () => {
      clearTimeout(timer)
      resolve(0)
    })
  })

/**
 * Connections that are there before the load, as those of a load balancer are. Node accepts one new connection with each
 * turn of its loop (libuv 1.46), so that a server whose turns are long is not reached by those who have none.
 */
export const connect = async (port: number, connections: number): Promise<http.Agent> => {
  // The one that was idle longest is taken, so that none is closed for being idle.
  const agent = new http.Agent({ keepAlive: true, maxFreeSockets: 2000, scheduling: "fifo" })
  await Promise.all(Array.from({ length: connections }, () => ask(port, agent, 60_000)))
  return agent
}

/** Each of so many clients asks again as soon as it is answered. Returns the answers per second. */
export const closedLoop = async (port: number, clients: number, millis: number): Promise<number> => {
  const agent = new http.Agent({ keepAlive: true })
  const start = performance.now()
  let answers = 0
  await Promise.all(Array.from({ length: clients }, async () => {
    while (performance.now() - start < millis) {
      if (await ask(port, agent, 60_000) === 200) answers++
    }
  }))
  const seconds = (performance.now() - start) / 1000
  agent.destroy()
  return answers / seconds
}

/** Requests come at random (Poisson), whatever becomes of those before them. */
export const openLoop = async (
  port: number,
  agent: http.Agent,
  phases: ReadonlyArray<Phase>,
  timeout: number
): Promise<ReadonlyArray<Shot>> => {
  const dues: Array<number> = []
  let begin = 0
  for (const { millis, perSecond } of phases) {
    const gap = () => -Math.log(1 - Math.random()) * 1000 / perSecond
    for (let due = begin + gap(); due < begin + millis; due += gap()) dues.push(due)
    begin += millis
  }
  const start = performance.now()
  const shots: Array<Promise<Shot>> = []
  const shoot = async (due: number): Promise<Shot> => {
    const left = timeout - (performance.now() - start - due)
    const status = left > 0 ? await ask(port, agent, left) : unsent
    return { due, latency: performance.now() - start - due, status }
  }
  for (const due of dues) {
    const wait = due - (performance.now() - start)
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait))
    shots.push(shoot(due))
  }
  return Promise.all(shots)
}
