declare module "opossum" {
  export default class CircuitBreaker<A> {
    constructor(action: () => Promise<A>, options?: Record<string, unknown>)
    fire(): Promise<A>
    readonly opened: boolean
    shutdown(): void
  }
}
