import * as Predicate from "effect/Predicate"

/*
 * Which answers are rejections of ours: to the policies around, they say nothing of how the service does. It is remembered
 * of the request and not of the response, for middleware makes new responses of old ones, and a substitute may be one for
 * all requests.
 */
const statuses = new WeakMap<object, number>()

/** A request, and what all its copies have in common. @internal */
export interface Sourced {
  readonly source: unknown
}

/** @internal */
export const sourceOf = (request: Sourced): object => Predicate.isObject(request.source) ? request.source : request

/** This request was turned away with this status. @internal */
export const markTurnedAway = (request: Sourced, status: number): void => {
  statuses.set(sourceOf(request), status)
}

/** Whether a request that is answered with this status was turned away with it. @internal */
export const wasTurnedAway = (request: Sourced, status: number): boolean => statuses.get(sourceOf(request)) === status
