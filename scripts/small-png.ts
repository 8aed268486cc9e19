// Pictures of a page have few colours: written with a palette they take a third of the room.
import { writeFileSync } from "node:fs"
import { crc32, deflateSync, inflateSync } from "node:zlib"

const signature = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10])

function* chunksOf(png: Buffer) {
  for (let at = signature.length; at < png.length;) {
    const length = png.readUInt32BE(at)
    yield { type: png.toString("latin1", at + 4, at + 8), data: png.subarray(at + 8, at + 8 + length) }
    at += length + 12
  }
}

const chunk = (type: string, data: Buffer) => {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data])
  const [length, check] = [Buffer.alloc(4), Buffer.alloc(4)]
  length.writeUInt32BE(data.length)
  check.writeUInt32BE(crc32(body))
  return Buffer.concat([length, body, check])
}

const paeth = (left: number, up: number, corner: number) => {
  const guess = left + up - corner
  const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)]
  return a <= b && a <= c ? left : b <= c ? up : corner
}

/** The bytes of the pixels, with the filters of the lines undone. */
const pixelsOf = (data: Buffer, width: number, height: number, size: number) => {
  const line = width * size
  const pixels = Buffer.alloc(line * height)
  for (let y = 0; y < height; y++) {
    const filter = data[y * (line + 1)]
    for (let x = 0; x < line; x++) {
      const at = y * line + x
      const left = x < size ? 0 : pixels[at - size] ?? 0
      const up = y === 0 ? 0 : pixels[at - line] ?? 0
      const corner = x < size || y === 0 ? 0 : pixels[at - line - size] ?? 0
      const guess = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter ?? 0] ?? 0
      pixels[at] = (data[y * (line + 1) + 1 + x] ?? 0) + guess
    }
  }
  return pixels
}

const distance = (a: number, b: number) =>
  [16, 8, 0].reduce((sum, shift) => sum + (((a >> shift) & 255) - ((b >> shift) & 255)) ** 2, 0)

/** The colours that occur most; each other one becomes the nearest of them. */
const paletteOf = (colours: Uint32Array) => {
  const counts = new Map<number, number>()
  for (const colour of colours) counts.set(colour, (counts.get(colour) ?? 0) + 1)
  const palette = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 256).map(([colour]) => colour)
  const indices = new Map([...counts.keys()].map((colour) => {
    const distances = palette.map((other) => distance(colour, other))
    return [colour, distances.indexOf(Math.min(...distances))]
  }))
  return { palette, indices }
}

/** Writes a picture of a browser, which has eight bits for each of three or four colours and no interlacing. */
export const smaller = (file: string, png: Buffer): void => {
  const chunks = [...chunksOf(png)]
  const header = chunks.find(({ type }) => type === "IHDR")?.data ?? Buffer.alloc(13)
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)]
  const size = header[9] === 6 ? 4 : 3
  const data = inflateSync(Buffer.concat(chunks.filter(({ type }) => type === "IDAT").map(({ data }) => data)))
  const pixels = pixelsOf(data, width, height, size)
  const colours = Uint32Array.from({ length: width * height }, (_, i) => pixels.readUIntBE(i * size, 3))
  const { indices, palette } = paletteOf(colours)
  const lines = Buffer.alloc((width + 1) * height)
  colours.forEach((colour, i) => {
    lines[Math.floor(i / width) * (width + 1) + 1 + i % width] = indices.get(colour) ?? 0
  })
  const colour = Buffer.alloc(palette.length * 3)
  palette.forEach((one, i) => colour.writeUIntBE(one, i * 3, 3))
  const head = Buffer.from(header)
  head[9] = 3
  writeFileSync(
    file,
    Buffer.concat([
      signature,
      chunk("IHDR", head),
      chunk("PLTE", colour),
      chunk("IDAT", deflateSync(lines, { level: 9 })),
      chunk("IEND", Buffer.alloc(0))
    ])
  )
}
