// Whoever has a tarball has no repository: before a package is packed, the pages that its README links to, and those that
// they link to, are put beside it; after it, all is as it was. Run in the folder of a package: `before` or `after`.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { root } from "./run.mjs"

const readme = join(process.cwd(), "README.md")
const folder = join(process.cwd(), "docs")
const [repository, packed] = ["](../../docs/", "](docs/"]
const pageLink = /\]\((?:\.\/)?([\w-]+\.md)(?=[)#])/g

/** Pictures are too large to be packed, and what is no page is not there: of both the words are left. */
const alone = (page) =>
  // Every second part is code.
  page.split(/(^```[^]*?^```)/m).map((part, i) =>
    i % 2 === 1 ? part : part.replace(/!\[([^\]]*)\]\([^)]*\)/g, "*$1*")
      .replace(/\[([^\]]*)\]\((?!https?:|#|(?:\.\/)?[\w-]+\.md[)#])[^)]*\)/g, "$1")
  ).join("")

const before = () => {
  const text = readFileSync(readme, "utf8").replaceAll(repository, packed)
  const names = [...text.matchAll(/\]\(docs\/([\w-]+\.md)(?=[)#])/g)].map(([, name]) => name)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder)
  // It grows while it is gone through.
  for (const name of names) {
    const page = alone(readFileSync(join(root, "docs", name), "utf8"))
    writeFileSync(join(folder, name), page)
    for (const [, other] of page.matchAll(pageLink)) if (!names.includes(other)) names.push(other)
  }
  writeFileSync(readme, text)
}

const after = () => {
  rmSync(folder, { recursive: true, force: true })
  writeFileSync(readme, readFileSync(readme, "utf8").replaceAll(packed, repository))
}

if (process.argv[2] === "after") after()
else before()
