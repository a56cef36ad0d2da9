import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Contender, Setup } from './contenders/contender.ts';
import { stop } from './processes.ts';

/** What a key may do in a minute while a contender is checked. */
const FEW = 5;

/**
 * Checks that a contender does the work it is measured at: it refuses requests without a key and with a wrong one, takes
 * the key off before the upstream and tells it whose request it is, and counts each key by itself against its limit.
 *
 * @throws Error with what it does not do
 */
export async function checkWork(contender: Contender, setup: Omit<Setup, 'upstream' | 'perKey'>) {
  const seen: { rawHeaders: string[]; keyId: string | undefined }[] = [];
  const witness = createServer((req, res) => {
    seen.push({
      rawHeaders: req.rawHeaders,
      keyId: req.headers['x-credential-identifier'] as string | undefined,
    });
    res.setHeader('Content-Type', 'application/json').end('{"witness":true}');
  });
  await new Promise<void>((resolve) => witness.listen(0, '127.0.0.1', resolve));
  const upstream = `127.0.0.1:${(witness.address() as AddressInfo).port}`;
  const fail = (what: string) => {
    throw new Error(`${contender.name} did not do the work: ${what}`);
  };
  const { url, processes } = await contender.start({ ...setup, upstream, perKey: FEW });
  const ask = async (key: string | null) => {
    const headers: Record<string, string> = key === null ? {} : { 'X-API-Key': key };
    const answer = await fetch(`${url}/v1/items`, { headers });
    return { status: answer.status, text: await answer.text() };
  };
  try {
    const [good, other] = setup.keys.keys as [(typeof setup.keys.keys)[0], (typeof setup.keys.keys)[0]];
    // Another one in whatever case: to nginx's `map`, both cases are the same.
    const last = good.plaintext.at(-1)?.toLowerCase() === 'a' ? 'b' : 'a';
    for (const [what, key] of [
      ['no key', null],
      ['a made-up key', 'made-up'],
      ['a key with one letter changed', good.plaintext.slice(0, -1) + last],
    ] as const) {
      const { status } = await ask(key);
      if (status !== 401) fail(`${what} was answered ${status}, not 401`);
    }
    if (seen.length > 0) fail('a request without a good key reached the upstream');

    let allowed = 0;
    let status = 200;
    while (status === 200 && allowed <= FEW) {
      const answer = await ask(good.plaintext);
      status = answer.status;
      if (status !== 200) break;
      allowed++;
      if (answer.text !== '{"witness":true}') fail(`the answer became ${answer.text}`);
    }
    if (status !== 429) fail(`request ${allowed + 1} of a key was answered ${status}, not 429`);
    if (allowed !== FEW) fail(`${allowed} requests of a key were let through, not ${FEW}`);
    if ((await ask(other.plaintext)).status !== 200) fail('one key used up the limit of another');

    for (const [i, { rawHeaders, keyId }] of seen.entries()) {
      const whose = i < FEW ? good : other;
      if (keyId !== whose.id) fail(`the upstream was told ${keyId}, not whose request it is`);
      const leaked = rawHeaders.some((text) => text.includes(whose.plaintext));
      if (leaked || rawHeaders.some((text) => text.toLowerCase() === 'x-api-key'))
        fail('the key reached the upstream');
    }
  } finally {
    await Promise.all(processes.map(stop));
    witness.closeAllConnections();
    witness.close();
  }
}
