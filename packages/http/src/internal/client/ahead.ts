import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

type Body<E> = Stream.Stream<Uint8Array, E>

/** A piece of a body, and where the next will be; the last has none. */
interface Part<E> {
  readonly body: Body<E>
  readonly next: Deferred.Deferred<Part<E>> | undefined
}

/**
 * Reads the beginning of a body before anybody asks for it, in the scope. What is returned gives each piece as soon as it is
 * there. Beyond `most` bytes its reader pulls for itself; if the scope is closed before that, or before the end, it fails.
 *
 * @internal
 */
export const readAhead = <E>(options: {
  readonly source: Body<E>
  readonly most: number
  /** Runs when the body has ended within `most` bytes, well or not. */
  readonly onEnd: Effect.Effect<void>
  readonly givenUp: () => E
}): Effect.Effect<Body<E>, never, Scope.Scope> =>
  Effect.scopeWith((scope) => {
    const first = Deferred.unsafeMake<Part<E>>(FiberId.none)
    let open = first
    let isClosed = false
    const add = (body: Body<E>) => {
      const here = open
      open = Deferred.unsafeMake(FiberId.none)
      return Deferred.succeed(here, { body, next: open })
    }
    const end = (body: Body<E>) => Effect.suspend(() => Deferred.succeed(open, { body, next: undefined }))
    const lost = Stream.suspend(() => Stream.fail(options.givenUp()))

    const pump = Effect.flatMap(Stream.toPull(options.source), (pull) => {
      let size = 0
      const rest = Stream.suspend(() => isClosed ? lost : Stream.fromPull(Effect.succeed(pull)))
      const next: Effect.Effect<unknown> = Effect.matchEffect(pull, {
        onSuccess: (chunk) => {
          size += Chunk.reduce(chunk, 0, (sum, bytes) => sum + bytes.length)
          const added = add(Stream.fromChunk(chunk))
          return Effect.zipRight(added, size > options.most ? end(rest) : next)
        },
        onFailure: (failure) =>
          Effect.zipRight(
            end(Option.match(failure, { onNone: () => Stream.empty, onSome: Stream.fail })),
            options.onEnd
          )
      })
      return next
    })
    const close = Effect.suspend(() => {
      isClosed = true
      return end(lost)
    })
    const read = Stream.unfoldEffect(first, (part: Deferred.Deferred<Part<E>> | undefined) =>
      part === undefined
        ? Effect.succeedNone
        : Effect.map(Deferred.await(part), ({ body, next }) => Option.some([body, next] as const)))
    return Scope.addFinalizer(scope, close).pipe(
      Effect.zipRight(Effect.forkIn(Effect.interruptible(Scope.extend(pump, scope)), scope)),
      Effect.as(Stream.flatten(read))
    )
  })
