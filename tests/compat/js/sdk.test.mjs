// The stock SDK from npm, over the same daemon as the Python tests.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

const e2b = await import(process.env.ATOLL_TEST_SDK ?? 'e2b')
const { CommandExitError, Sandbox, TimeoutError } = e2b
const first = !('FileNotFoundError' in e2b) // The SDK is 1.x, which has fewer methods and classes.
const { AuthenticationError, FileNotFoundError, SandboxNotFoundError } = first
  ? { AuthenticationError: /401/, FileNotFoundError: e2b.NotFoundError, SandboxNotFoundError: /404/ }
  : e2b

let sandbox
before(async () => {
  sandbox = await Sandbox.create({ timeoutMs: 300_000, secure: true, metadata: { from: 'js' }, envs: { NAME: 'reef' } })
})
after(async () => { await sandbox?.kill() })

async function until(condition, what, ms = 20_000) {
  const end = Date.now() + ms
  for (;;) {
    const value = await condition()
    if (value) return value
    assert.ok(Date.now() < end, `waited for ${what}`)
    await new Promise((next) => setTimeout(next, 20))
  }
}

test('info, list, connect', async () => {
  const info = await sandbox.getInfo()
  assert.equal(info.sandboxId, sandbox.sandboxId)
  assert.deepEqual(info.metadata, { from: 'js' })
  const query = { metadata: { from: 'js' } }
  const found = first ? await Sandbox.list({ query }) : await Sandbox.list({ query }).nextItems()
  assert.equal(found.find((s) => s.sandboxId === sandbox.sandboxId).state, 'running')
  const again = await Sandbox.connect(sandbox.sandboxId)
  assert.equal((await again.commands.run('echo $NAME')).stdout, 'reef\n')
  assert.equal(await sandbox.isRunning(), true)
})

test('errors have their classes', async () => {
  await assert.rejects(Sandbox.create({ apiKey: `e2b_${'0'.repeat(40)}` }), AuthenticationError)
  assert.equal(await Sandbox.kill('inobodyhasthisid00000'), false)
  await assert.rejects(Sandbox.getInfo('inobodyhasthisid00000'), SandboxNotFoundError)
})

test('commands', async () => {
  const result = await sandbox.commands.run('echo out; echo err >&2')
  assert.deepEqual([result.stdout, result.stderr, result.exitCode], ['out\n', 'err\n', 0])
  await assert.rejects(sandbox.commands.run('exit 4'), (e) => e instanceof CommandExitError && e.exitCode === 4)
  await assert.rejects(sandbox.commands.run('sleep 60', { timeoutMs: 1000 }), TimeoutError)
  assert.equal((await sandbox.commands.run('whoami', { user: 'root' })).stdout, 'root\n')

  const reader = await sandbox.commands.run('head -n 1', { background: true, stdin: true })
  assert.ok((await sandbox.commands.list()).some((p) => p.pid === reader.pid))
  await sandbox.commands.sendStdin(reader.pid, 'a\n')
  assert.equal((await reader.wait()).stdout, 'a\n')

  const slow = await sandbox.commands.run('sleep 3600', { background: true, timeoutMs: 0 })
  await slow.disconnect()
  const again = await sandbox.commands.connect(slow.pid)
  assert.equal(await sandbox.commands.kill(slow.pid), true)
  await assert.rejects(again.wait(), CommandExitError)
  assert.equal(await sandbox.commands.kill(slow.pid), false)
  const large = await sandbox.commands.run('head -c 5000000 /dev/zero | tr "\\0" y')
  assert.equal(large.stdout.length, 5_000_000)
})

test('stdin until its end', { skip: first }, async () => {
  const cat = await sandbox.commands.run('cat', { background: true, stdin: true })
  await sandbox.commands.sendStdin(cat.pid, 'a\n')
  await sandbox.commands.closeStdin(cat.pid)
  assert.equal((await cat.wait()).stdout, 'a\n')
})

test('files', async () => {
  const written = await sandbox.files.write('dir/grün 🐚.txt', 'hello')
  assert.equal(written.path, '/home/user/dir/grün 🐚.txt')
  assert.equal(await sandbox.files.read('dir/grün 🐚.txt'), 'hello')
  const bytes = new Uint8Array(3_000_000).map((_, i) => i % 251)
  await sandbox.files.write('bytes', bytes.buffer)
  assert.deepEqual(await sandbox.files.read('bytes', { format: 'bytes' }), bytes)
  const blob = await sandbox.files.read('bytes', { format: 'blob' })
  assert.equal(blob.size, bytes.length)
  await sandbox.files.write([{ path: 'm/1', data: '1' }, { path: 'm/2', data: '2' }])
  assert.deepEqual((await sandbox.files.list('m')).map((e) => e.name), ['1', '2'])
  assert.equal(await sandbox.files.makeDir('m'), false)
  assert.equal(await sandbox.files.exists('m/1'), true)
  assert.equal((await sandbox.files.rename('m/1', 'm/one')).name, 'one')
  await sandbox.files.remove('m')
  assert.equal(await sandbox.files.exists('m'), false)
  await assert.rejects(sandbox.files.read('m/one'), FileNotFoundError)
  await sandbox.files.write('empty', '')
  assert.equal(await sandbox.files.read('empty'), '')
})

test('watch', async () => {
  await sandbox.files.makeDir('seen')
  const events = []
  const watch = await sandbox.files.watchDir('seen', (event) => events.push(event), { recursive: true })
  await sandbox.files.write('seen/a/b', 'x')
  await until(() => events.some((e) => e.name === 'a/b'), 'the event')
  await watch.stop()
})

test('terminal', async () => {
  let text = ''
  const terminal = await sandbox.pty.create({ cols: 97, rows: 31, onData: (data) => { text += new TextDecoder().decode(data) } })
  const type = (line) => sandbox.pty.sendInput(terminal.pid, new TextEncoder().encode(line))
  await type('stty size\n')
  await until(() => text.includes('31 97'), 'the size')
  await sandbox.pty.resize(terminal.pid, { cols: 120, rows: 40 })
  await type('stty size; exit\n')
  assert.equal((await terminal.wait()).exitCode, 0)
  assert.match(text, /40 120/)
})

test('signed links', async () => {
  await sandbox.files.write('linked', 'by link')
  const headers = { 'E2b-Sandbox-Id': sandbox.sandboxId, 'E2b-Sandbox-Port': '49983' }
  const link = await sandbox.downloadUrl('linked', { useSignatureExpiration: 60 })
  assert.equal(await (await fetch(link, { headers })).text(), 'by link')
  const form = new FormData()
  form.append('file', new Blob(['uploaded']), 'name')
  const up = await fetch(await sandbox.uploadUrl('up'), { method: 'POST', body: form, headers })
  assert.equal(up.status, 200)
  assert.equal(await sandbox.files.read('up'), 'uploaded')
})

test('a killed sandbox is gone', async () => {
  const other = await Sandbox.create({ timeoutMs: 60_000 })
  assert.equal(await Sandbox.kill(other.sandboxId), true)
  assert.equal(await other.isRunning(), false)
  await assert.rejects(other.commands.run('true', { requestTimeoutMs: 1000 }))
})
