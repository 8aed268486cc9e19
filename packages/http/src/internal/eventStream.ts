/** Whether a `Content-Type` is that of a stream of events. @internal */
export const isEventStreamType = (contentType: string): boolean => /^text\/event-stream/i.test(contentType)
