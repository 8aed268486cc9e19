/** The most permits that were in use at once in the last span or two. @internal */
export class Peak {
  private now = 0
  private before = 0
  private since = 0

  get most(): number {
    return Math.max(this.now, this.before)
  }

  note(used: number): void {
    if (used > this.now) this.now = used
  }

  /** A span is over, where it began so long ago; what is in use counts for the next one. */
  age(time: number, span: number, used: number): void {
    if (time < this.since + span) return
    this.before = this.now
    this.now = used
    this.since = time
  }

  forget(): void {
    this.now = this.before = 0
  }
}
