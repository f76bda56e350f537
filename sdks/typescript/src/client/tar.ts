import { createReadStream } from 'node:fs'
import { lstat, readdir, readlink } from 'node:fs/promises'
import { dirname, join, posix } from 'node:path'

import { ConfigError } from '../errors.js'

/** Names that an upload leaves out at any depth, as `parallax deploy` does: what is made anew, and what belongs to tools. */
const IGNORED: ReadonlySet<string> = new Set([
  '.DS_Store',
  '.git',
  '.hg',
  '.idea',
  '.mypy_cache',
  '.parallax',
  '.pytest_cache',
  '.ruff_cache',
  '.svn',
  '.venv',
  '.vscode',
  '__pycache__',
  'node_modules',
])
/** `.env` files hold secrets; these are templates of such files. */
const TEMPLATES: ReadonlySet<string> = new Set(['.env.example', '.env.sample', '.env.template'])

const BLOCK = 512
/** The ustar header has room for so many bytes of a name; longer ones get a PAX record. */
const NAME_BYTES = 100
/** Eleven octal digits. */
const MAX_FILE_BYTES = 8 ** 11 - 1

interface Entry {
  /** Relative, with `/`. */
  readonly name: string
  readonly type: '0' | '2' | '5'
  readonly executable: boolean
  readonly size: number
  readonly link: string
}

/**
 * A folder as a tar archive, piece by piece. The same content makes the same
 * bytes: entries are sorted, owners and times are left out.
 *
 * @param ignored names to leave out beside the usual ones
 * @throws ConfigError for a link that leads out of the folder, for what is
 * neither file, folder nor link, and for a folder with a `.parallaxignore`.
 */
export async function* tarOf(folder: string, ignored: ReadonlySet<string>): AsyncGenerator<Buffer> {
  // It may keep secrets out, and a guess at its patterns could let them in.
  if ((await readdir(folder)).includes('.parallaxignore')) {
    throw new ConfigError(`${folder} has a .parallaxignore, which only \`parallax deploy\` reads: use that, or pass a .tar.gz of your own`)
  }
  for await (const entry of walk(folder, '', ignored)) {
    yield header(entry)
    if (entry.type === '0') {
      yield* content(join(folder, entry.name), entry.size)
    }
  }
  yield Buffer.alloc(2 * BLOCK)
}

async function* walk(root: string, under: string, ignored: ReadonlySet<string>): AsyncGenerator<Entry> {
  const names = (await readdir(join(root, under))).filter((name) => !isIgnored(name, under, ignored)).sort()
  for (const base of names) {
    const name = posix.join(under, base)
    const stat = await lstat(join(root, name))
    if (stat.isDirectory()) {
      yield { name: `${name}/`, type: '5', executable: true, size: 0, link: '' }
      yield* walk(root, name, ignored)
    } else if (stat.isSymbolicLink()) {
      yield { name, type: '2', executable: true, size: 0, link: await inside(root, name) }
    } else if (stat.isFile() && stat.size <= MAX_FILE_BYTES) {
      yield { name, type: '0', executable: (stat.mode & 0o100) !== 0, size: stat.size, link: '' }
    } else {
      throw new ConfigError(`${join(root, name)} cannot be uploaded: it is not a file, a folder or a link`)
    }
  }
}

function isIgnored(name: string, under: string, more: ReadonlySet<string>): boolean {
  const isSecret = (name === '.env' || name.startsWith('.env.')) && !TEMPLATES.has(name)
  // `target` is a build's output only where the source begins.
  const isBuilt = name.endsWith('.pyc') || (name === 'target' && under === '')
  return IGNORED.has(name) || more.has(name) || isSecret || isBuilt
}

async function inside(root: string, name: string): Promise<string> {
  const target = await readlink(join(root, name))
  const resolved = posix.normalize(posix.join(dirname(name), target))
  if (posix.isAbsolute(target) || resolved.startsWith('..')) {
    throw new ConfigError(`${join(root, name)} leads out of the folder, to ${target}: an upload holds only its own files`)
  }
  return target
}

async function* content(path: string, size: number): AsyncGenerator<Buffer> {
  let sent = 0
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    sent += chunk.byteLength
    yield chunk
  }
  if (sent !== size) {
    throw new ConfigError(`${path} changed while it was read; try again`)
  }
  yield Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK)
}

function header(entry: Entry): Buffer {
  const records = [
    ['path', entry.name],
    ['linkpath', entry.link],
  ].filter(([, value]) => Buffer.byteLength(value ?? '') > NAME_BYTES)
  const long = records.length > 0
  return Buffer.concat([long ? pax(records as [string, string][]) : Buffer.alloc(0), ustar(entry)])
}

/** An extra entry whose records replace fields of the next. */
function pax(records: readonly (readonly [string, string])[]): Buffer {
  const body = Buffer.concat(records.map(([key, value]) => record(key, value)))
  const head = ustar({ name: 'pax', type: 'x', executable: false, size: body.byteLength, link: '' })
  return Buffer.concat([head, body, Buffer.alloc((BLOCK - (body.byteLength % BLOCK)) % BLOCK)])
}

/** `LENGTH KEY=VALUE\n`, where the length counts itself. */
function record(key: string, value: string): Buffer {
  const rest = Buffer.from(` ${key}=${value}\n`, 'utf8')
  let length = rest.byteLength
  while (String(length).length + rest.byteLength !== length) {
    length = String(length).length + rest.byteLength
  }
  return Buffer.concat([Buffer.from(String(length)), rest])
}

function ustar(entry: Omit<Entry, 'type'> & { readonly type: Entry['type'] | 'x' }): Buffer {
  const block = Buffer.alloc(BLOCK)
  const octal = (value: number, at: number, width: number): void => {
    block.write(`${value.toString(8).padStart(width - 1, '0')}\0`, at, 'latin1')
  }
  Buffer.from(entry.name).copy(block, 0, 0, NAME_BYTES)
  octal(entry.executable ? 0o755 : 0o644, 100, 8)
  octal(0, 108, 8)
  octal(0, 116, 8)
  octal(entry.size, 124, 12)
  octal(0, 136, 12)
  block.fill(' ', 148, 156)
  block.write(entry.type, 156, 'latin1')
  Buffer.from(entry.link).copy(block, 157, 0, NAME_BYTES)
  block.write('ustar\x0000', 257, 'latin1')
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return block
}
