// Much at once, over the SDK from npm.
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { after, before, test } from 'node:test'

const { Sandbox } = await import(process.env.ATOLL_TEST_SDK ?? 'e2b')

let sandbox
before(async () => { sandbox = await Sandbox.create({ timeoutMs: 300_000 }) })
after(async () => { await sandbox?.kill() })

const sum = (data) => createHash('sha256').update(data).digest('hex')
const stdout = async (command) => (await sandbox.commands.run(command)).stdout

test('short commands, twenty at once', async () => {
  for (let round = 0; round < 5; round++) {
    const numbers = Array.from({ length: 20 }, (_, n) => round * 20 + n)
    assert.deepEqual(await Promise.all(numbers.map((n) => stdout(`echo ${n}`))), numbers.map((n) => `${n}\n`))
  }
})

test('a large output streams', async () => {
  const [expected] = (await stdout('head -c 15000000 /dev/urandom | base64 -w 0 > out && sha256sum < out')).split(' ')
  const seen = createHash('sha256')
  let parts = 0
  await sandbox.commands.run('cat out', { onStdout: (text) => { seen.update(text); parts += 1 }, timeoutMs: 120_000 })
  assert.equal(seen.digest('hex'), expected)
  assert.ok(parts > 10)
})

test('a large file, both ways', async () => {
  const data = randomBytes(32 * 2 ** 20)
  await sandbox.files.write('large', new Blob([data]), { requestTimeoutMs: 120_000 })
  assert.equal((await stdout('sha256sum < large')).split(' ')[0], sum(data))
  const back = createHash('sha256')
  for await (const part of await sandbox.files.read('large', { format: 'stream' })) back.update(part)
  assert.equal(back.digest('hex'), sum(data))
})
