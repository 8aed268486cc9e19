import { describe, expect, it } from "@effect/vitest"
import { columnsOf, groupsOf, listOf, namesOf, wordsOf } from "../src/internal/dashboard/page/compare.js"

const said = (label: string, level: number, state: string) => ({ label, level, state })
const process = (label: string, levels: ReadonlyArray<number> = [], status = "Live") => ({
  id: label,
  label,
  status,
  levels
})
const labels = (some: ReadonlyArray<{ readonly label: string }>) => some.map(({ label }) => label)

describe("processes side by side", () => {
  it("are counted by what they say, the worst first, then what fewer say", () => {
    const groups = groupsOf([
      said("a", 0, "closed"),
      said("b", 3, "open"),
      said("c", 0, "closed"),
      said("d", 0, "not understood here"),
      said("e", 2, "half open")
    ])
    expect(groups.map(({ labels, state }) => [state, ...labels])).toEqual([
      ["open", "b"],
      ["half open", "e"],
      ["not understood here", "d"],
      ["closed", "a", "c"]
    ])
  })

  it("that differ by a number alone are counted together", () => {
    const all = [
      said("a", 3, "1 key not closed"),
      said("b", 3, "12 keys not closed"),
      said("c", 3, "1.2 k keys not closed")
    ]
    expect(groupsOf(all)).toEqual([{ state: "keys not closed", level: 3, labels: ["a", "b", "c"] }])
  })

  it("are named where they are a few of many", () => {
    const group = (...labels: ReadonlyArray<string>) => ({ state: "open", level: 3, labels })
    expect(namesOf(group("a", "b"), 9)).toBe("a, b")
    expect(namesOf(group("a", "b"), 2)).toBeUndefined()
    expect(namesOf(group("a", "b", "c", "d"), 9)).toBeUndefined()
    expect(listOf(["a", "b", "c"], 3)).toBe("a, b, c")
    expect(listOf(["a", "b", "c", "d"], 2)).toBe("a, b and 2 more")
  })

  it("have columns: this one, those that are named, late ones, and the worst, in the order of their names", () => {
    const all = [
      process("p0"),
      process("p10", [0, 0]),
      process("p9", [0, 0]),
      process("p2", [2, 0]),
      process("p3", [3, 0]),
      process("p4", [3, 2]),
      process("p5", [0, 0], "Late")
    ]
    expect(labels(columnsOf(all, [], 12))).toEqual(["p0", "p5", "p4", "p3", "p2", "p9", "p10"])
    expect(labels(columnsOf(all, [], 3))).toEqual(["p0", "p5", "p4"])
    expect(labels(columnsOf(all, ["p9", "p2"], 4))).toEqual(["p0", "p2", "p9", "p5"])
    expect(columnsOf([], [], 3)).toEqual([])
  })

  it("are found by words that no instance has", () => {
    const rows = ["payments circuit breaker", "shop bulkhead"]
    expect(wordsOf("pay shop-7", rows, ["shop-7"])).toEqual({ named: ["shop-7"], rows: ["pay"] })
    expect(wordsOf(" Shop", rows, ["shop-7"])).toEqual({ named: [], rows: ["shop"] })
    expect(wordsOf("nothing", rows, ["shop-7"])).toEqual({ named: [], rows: ["nothing"] })
    expect(wordsOf("", rows, ["shop-7"])).toEqual({ named: [], rows: [] })
  })
})
