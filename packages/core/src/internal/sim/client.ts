import { Priority } from "../../Priority.js"
import type { Simulation } from "../../testing.js"
import { delayAfter } from "../backoff.js"
import type { Bucket, BucketConfig } from "../bucket.js"
import { deposit, full, withdraw } from "../bucket.js"
import type { Agenda, Entry } from "./agenda.js"
import type { Gate, Pass } from "./gate.js"
import { toNanos } from "./gate.js"
import type { SeededRandom } from "./random.js"
import type { Job, Server } from "./server.js"

/** A request as it is written down. @internal */
export interface Draft {
  readonly stream: number
  readonly at: number
  end: number
  attempts: number
  failures: number
  outcome: Simulation.Outcome
}

/** What the gate knows of a request. */
type Kind = Pick<Pass, "rank" | "key">

/** Those who send requests, wait for so long, and try again. @internal */
export class Client {
  private readonly timeout: number
  private readonly budget: BucketConfig | undefined
  private bucket: Bucket | undefined

  constructor(
    private readonly options: Simulation.ClientOptions,
    private readonly gate: Gate,
    private readonly server: Server,
    private readonly agenda: Agenda,
    private readonly random: SeededRandom
  ) {
    this.timeout = options.timeout ?? Infinity
    const budget = options.retry?.budget
    this.budget = budget === undefined ? undefined : {
      maxTokens: budget.maxTokens ?? 50,
      tokensPerSuccess: budget.tokensPerSuccess ?? 0.1,
      minPerSecond: budget.minPerSecond ?? 0
    }
    this.bucket = this.budget === undefined ? undefined : full(this.budget)
  }

  send(request: Draft, { key, priority = "normal" }: Simulation.ArrivalOptions): void {
    this.attempt(request, { rank: Priority.rank(priority), key }, request.at + (this.options.deadline ?? Infinity), 0)
  }

  private attempt(request: Draft, kind: Kind, deadline: number, delay: number): void {
    const { agenda, gate, options, server } = this
    const patience = Math.min(this.timeout, deadline - agenda.now)
    request.attempts++
    let job: Job | undefined
    let timer: Entry | undefined
    /** What the caller heard. */
    let heard = false
    const hear = (outcome: Simulation.Outcome): void => {
      if (heard) return
      heard = true
      if (timer !== undefined) agenda.cancel(timer)
      this.heard(request, kind, deadline, delay, outcome)
    }
    const pass: Pass = {
      ...kind,
      deadline: agenda.now + patience,
      admittedAt: 0,
      onAdmitted: () => {
        job = {
          onDone: (failed) => {
            gate.leave(pass, failed || heard ? "failure" : "success")
            hear(failed ? "failed" : "ok")
          }
        }
        server.start(job)
      },
      onRejected: () => hear("rejected")
    }
    if (patience < Infinity) {
      timer = agenda.after(patience, () => {
        // An answer that comes too late counts as a loss when it comes.
        if (job === undefined) gate.abandon(pass)
        else if (options.interrupt === true) {
          // What is interrupted says nothing, here as to the patterns.
          server.cancel(job)
          gate.leave(pass, "ignored")
        }
        hear("timedOut")
      })
    }
    server.accept(() => !heard && gate.enter(pass))
  }

  private heard(
    request: Draft,
    kind: Kind,
    deadline: number,
    previous: number,
    outcome: Simulation.Outcome
  ): void {
    const { agenda, budget, bucket } = this
    const { retry } = this.options
    if (outcome === "ok") {
      if (budget !== undefined && bucket !== undefined) this.bucket = deposit(budget, bucket)
    } else {
      if (outcome !== "rejected") request.failures++
      const retries = request.attempts - 1
      if (
        retry !== undefined && retries < retry.retries && (outcome !== "rejected" || retry.rejected !== false)
      ) {
        const jitter = retry.jitter ?? "full"
        const delay = delayAfter(
          {
            strategy: "exponential",
            initialDelay: retry.delay ?? 50,
            factor: 2,
            maxDelay: retry.maxDelay ?? 5000,
            jitter
          },
          retries,
          previous,
          this.random.next()
        )
        if (agenda.now + delay < deadline && this.pay()) {
          agenda.after(delay, () => this.attempt(request, kind, deadline, delay))
          return
        }
      }
    }
    request.end = agenda.now
    request.outcome = outcome
  }

  private pay(): boolean {
    if (this.budget === undefined || this.bucket === undefined) return true
    const [source, next] = withdraw(this.budget, this.bucket, toNanos(this.agenda.now))
    this.bucket = next
    return source !== undefined
  }
}
