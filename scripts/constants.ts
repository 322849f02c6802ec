// esbuild writes the `const` and the classes of the modules that it bundles as `var`. V8 then has to look each of them up
// again whenever it is used, and cannot count on the type and length of a table or on which function is called. Here they
// become `const` again: 4 % of the instructions that a proxy executes for a request.
import { parseSync, Visitor } from 'oxc-parser'

/** The bundle with `const` for every variable of its outermost scope that is never assigned again. */
export function withConstants(file: string, code: string): string {
  const { program, errors } = parseSync(file, code)
  if (errors.length > 0) throw new Error(`${file}: ${errors[0]!.message}`)

  // By name, whatever it means at that place: a name that is also another variable stays what it is.
  const assigned = new Set<string>()
  const assign = (target: unknown): void => {
    for (const name of namesIn(target)) assigned.add(name)
  }
  new Visitor({
    AssignmentExpression: ({ left }) => assign(left),
    UpdateExpression: ({ argument }) => assign(argument),
    ForInStatement: ({ left }) => assign(left),
    ForOfStatement: ({ left }) => assign(left),
  }).visit(program)

  const declared = new Map<string, number>()
  const places: { name: string; at: number }[] = []
  for (const node of program.body) {
    if (node.type !== 'VariableDeclaration' || node.kind !== 'var') continue
    for (const name of namesIn(node.declarations.map(({ id }) => id))) {
      declared.set(name, (declared.get(name) ?? 0) + 1)
    }
    const [first, second] = node.declarations
    if (first === undefined || second !== undefined || first.init === null) continue
    if (first.id.type === 'Identifier') places.push({ name: first.id.name, at: node.start })
  }

  let out = ''
  let from = 0
  for (const { name, at } of places) {
    if (assigned.has(name) || declared.get(name) !== 1) continue
    out += `${code.slice(from, at)}const`
    from = at + 'var'.length
  }
  return out + code.slice(from)
}

/** The variables that an assignment to this changes: a name, or a pattern of names. A member of a variable is not it. */
function namesIn(target: unknown): string[] {
  if (typeof target !== 'object' || target === null) return []
  if ('type' in target && target.type === 'MemberExpression') return []
  if ('type' in target && target.type === 'Identifier' && 'name' in target) return [String(target.name)]
  return Object.values(target).flatMap(namesIn)
}
