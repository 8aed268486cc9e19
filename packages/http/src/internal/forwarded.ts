/** The pieces of a text between separators that do not stand in a quoted string; none where one does not close. */
const split = (text: string, separator: string): ReadonlyArray<string> => {
  const pieces: Array<string> = []
  let from = 0
  let quoted = false
  for (let i = 0; i < text.length; i++) {
    if (quoted && text[i] === "\\") i++
    else if (text[i] === "\"") quoted = !quoted
    else if (!quoted && text[i] === separator) {
      pieces.push(text.slice(from, i))
      from = i + 1
    }
  }
  pieces.push(text.slice(from))
  return quoted ? [] : pieces
}

/**
 * The elements of a `Forwarded` header, one for each proxy, the nearest last (RFC 7239, section 4). Where a quote does not
 * close there are none: a client could open one to swallow what the proxies wrote, and have its own words counted.
 *
 * @internal
 */
export const elementsOf = (header: string): ReadonlyArray<string> => header.trim() === "" ? [] : split(header, ",")

/**
 * What an element says of whom it was forwarded for, without quotes; `""` where it says nothing, or says it
 * twice.
 *
 * @internal
 */
export const forOf = (element: string): string => {
  const values = split(element, ";").flatMap((pair) => {
    const match = /^\s*for\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s";,]+))\s*$/i.exec(pair)
    if (match === null) return /^\s*for\s*=/i.test(pair) ? [""] : []
    return [match[2] ?? (match[1] ?? "").replace(/\\(.)/g, "$1")]
  })
  return values.length === 1 ? values[0] ?? "" : ""
}
