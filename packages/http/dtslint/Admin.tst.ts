import type { ForbiddenError } from "@effect-resilience/http"
import { Admin } from "@effect-resilience/http"
import type { HttpRouter, HttpServerRequest } from "@effect/platform"
import { Context, Effect } from "effect"
import { describe, expect, it } from "tstyche"

class Users extends Context.Tag("Users")<Users, { readonly who: string }>() {}
declare const byUsers: (
  request: HttpServerRequest.HttpServerRequest,
  action: Admin.Action
) => Effect.Effect<Admin.Actor, ForbiddenError, Users>

describe("Admin", () => {
  it("is not to be had without a word on who may use it", () => {
    expect(Admin.router).type.not.toBeCallableWith({})
    expect(Admin.router).type.not.toBeCallableWith()
    expect(Admin.router).type.not.toBeCallableWith({ authorize: true })
    expect(Admin.layerRouter).type.not.toBeCallableWith({ path: "/admin" })
    // Nobody is let in without a name for the audit trail.
    expect(Admin.router).type.not.toBeCallableWith({ authorize: () => Effect.void })
  })

  it("requires what its `authorize` does", () => {
    expect(Admin.router({ authorize: Admin.loopbackOnly })).type.toBe<HttpRouter.HttpRouter<never, Admin>>()
    expect(Admin.router({ authorize: byUsers })).type.toBe<HttpRouter.HttpRouter<never, Admin | Users>>()
  })
})
