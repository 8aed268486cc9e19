/** A protected app in Express 5, beside its own routes, which are protected too. */
import { middleware } from "@effect-resilience/http/connect"
import { NodeHttpServer } from "@effect/platform-node"
import express from "express"
import { app, runtime } from "./mounted/app.js"
import { check } from "./mounted/check.js"

const handler = await runtime.runPromise(NodeHttpServer.makeHandler(app))
const protect = await runtime.runPromise(middleware({ name: "own", rateLimit: { rate: "100/minute" } }))

const server = express()
  // Before whatever reads bodies: of a body that is read already the app would see nothing.
  .use("/shop", handler)
  .use(express.json())
  .get("/own", protect, (_, response) => {
    response.send("own")
  })
  .listen(0, "127.0.0.1", () => void check(server))
