/**
 * How many live instances of this process were built without a Registry. It is the one value of the library that belongs
 * to the process: an instance that nobody can see could not be counted anywhere else. It decides nothing.
 *
 * @internal
 */
export const unregistered = { count: 0 }
