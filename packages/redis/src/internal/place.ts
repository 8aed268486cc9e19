import * as Predicate from "effect/Predicate"
import { Cluster } from "ioredis"
import type { Client } from "./client.js"

interface Address {
  readonly host?: string | undefined
  readonly port?: number | string | undefined
}

const show = ({ host = "127.0.0.1", port = 6379 }: Address): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`

/** A node as the user wrote it: a URL may have a password, of which nothing is shown. */
const nodeAt = (node: unknown): string => {
  if (Predicate.isRecord(node)) return show(node)
  const text = String(node)
  if (/^\d+$/.test(text)) return show({ port: text })
  const url = text.includes("//") ? text : `redis://${text}`
  if (!URL.canParse(url)) return "a node"
  const { hostname, port } = new URL(url)
  return show({ host: hostname.replace(/^\[|\]$/g, ""), port: port === "" ? undefined : port })
}

const list = (addresses: ReadonlyArray<unknown>): string => addresses.map(nodeAt).join(", ")

/**
 * Where a client finds its server, for people to read: its address or its socket, the master that the sentinels name and
 * where that is as far as is known, or the nodes by which it finds a cluster.
 *
 * @internal
 */
export const placeOf = (client: Client): string => {
  if (client instanceof Cluster) {
    return list((client as unknown as { readonly startupNodes: ReadonlyArray<unknown> }).startupNodes)
  }
  const { host, name, path, port, sentinels } = client.options
  if (path) return path
  if (!sentinels) return show({ host, port })
  const { remoteAddress, remotePort } = (client.stream ?? {}) as {
    readonly remoteAddress?: string
    readonly remotePort?: number
  }
  return remoteAddress === undefined
    ? `the master "${name}" of ${list(sentinels)}`
    : `${show({ host: remoteAddress, port: remotePort })} (master "${name}")`
}
