/** A protected app in Hono, beside its own routes. */
import { HttpApp, HttpServerRequest } from "@effect/platform"
import { serve } from "@hono/node-server"
import { getConnInfo } from "@hono/node-server/conninfo"
import { Context, Effect } from "effect"
import { Hono } from "hono"
import { mount } from "hono/mount"
import type { Server } from "node:http"
import { app, runtime } from "./mounted/app.js"
import { check } from "./mounted/check.js"

/** The address of the peer: a `Request` does not have it. */
class Peer extends Context.Tag("Peer")<Peer, string>() {}

const withPeer = Effect.flatMap(
  Peer,
  (remoteAddress) =>
    Effect.updateService(app, HttpServerRequest.HttpServerRequest, (request) => request.modify({ remoteAddress }))
)

// The peer comes with each request, not with the runtime.
const handler = HttpApp.toWebHandlerRuntime(await runtime.runtime())(withPeer as typeof app)

const hono = new Hono()
  .all("/shop/*", mount(handler, { optionHandler: (c) => Context.make(Peer, getConnInfo(c).remote.address ?? "") }))
  .get("/own", (c) => c.text("own"))

const server = serve({ fetch: hono.fetch, hostname: "127.0.0.1", port: 0 }, () => void check(server as Server))
