import { afterEach, describe, expect, it } from 'vitest';
import { closeAll, closeLater, startTestGateway, startUpstream, type TestGateway } from './gateways.ts';
import { newKeystoreUrl, openTestKeystore } from './keystores.ts';
import { eventually } from './servers.ts';

afterEach(closeAll);

const NODES = 3;
const QUOTA = 600;
const PLANS = `plans:\n  monthly: { name: Monthly, quota: ${QUOTA} }\n`;

/** Gateways on one keystore, each with a connection of its own to it, as nodes have them. */
async function startNodes(): Promise<{ nodes: TestGateway[]; plaintext: string; id: string }> {
  const { url: upstreamUrl } = await startUpstream();
  const keystoreUrl = newKeystoreUrl();
  const nodes: TestGateway[] = [];
  for (let n = 0; n < NODES; n++)
    nodes.push(await startTestGateway({ plans: PLANS, keystoreUrl, upstreamUrl }));
  return { nodes, ...(await nodes[0]!.key('monthly')) };
}

/** Asks each node so often at once. How many were let through. */
async function spend(nodes: readonly TestGateway[], key: string, times: number): Promise<number> {
  const asked = nodes.flatMap((node) => Array.from({ length: times }, () => node.get('/', key)));
  const statuses = (await Promise.all(asked)).map(({ status }) => status);
  expect(new Set(statuses.filter((status) => status !== 200 && status !== 429))).toEqual(new Set());
  return statuses.filter((status) => status === 200).length;
}

/** What a node would tell a caller of the quota. */
async function usedAt(node: TestGateway, key: string): Promise<number> {
  const { quota } = (await (await node.get('/quota', key)).json()) as { quota: { used: number } };
  return quota.used;
}

describe('a quota that several gateways share', () => {
  it('is the same for all once usage is written, and goes over by no more than what they let through before', async () => {
    const { nodes, plaintext, id } = await startNodes();
    const first = await spend(nodes, plaintext, 60);
    expect(first).toBe(NODES * 60);
    let admitted = first;
    const known = () => Promise.all(nodes.map((node) => usedAt(node, plaintext)));
    // Each learns what the others counted when it writes what it counted itself.
    while ((await known()).some((used) => used < first)) {
      // Enough to be written at once.
      admitted += await spend(nodes, plaintext, 10);
      await eventually(async () => {
        expect((await nodes[0]!.keystore.findKeyFacts(id))!.usedThisMonth).toBe(admitted);
      });
    }
    expect(admitted).toBeLessThan(QUOTA);

    // No node lets through more than is left as far as it knows.
    const atMost = (await known()).reduce((sum, used) => sum + QUOTA - used, 0);
    const before = admitted;
    admitted += await spend(nodes, plaintext, QUOTA - admitted);
    for (let more = 1; more > 0; admitted += more) more = await spend(nodes, plaintext, 10);
    expect(admitted).toBeGreaterThanOrEqual(QUOTA);
    expect(admitted - before).toBeLessThanOrEqual(atMost);
    for (const node of nodes) await node.close();
    const ledger = closeLater(await openTestKeystore({ url: nodes[0]!.keystoreUrl }));
    expect((await ledger.findKeyFacts(id))!.usedThisMonth).toBe(admitted);
  });

  it('has what others wrote at the end of an hour seconds after the next one began', async () => {
    let time = Date.UTC(2026, 10, 12, 9, 59, 50);
    const node = await startTestGateway({ plans: PLANS, now: () => time });
    const { plaintext, id } = await node.key('monthly');
    const ledger = async () => (await node.keystore.findKeyFacts(id))?.usedThisMonth;
    expect(await spend([node], plaintext, 5)).toBe(5);
    await eventually(async () => expect(await ledger()).toBe(5));
    const hour = Math.floor(time / 3_600_000);
    await node.keystore.recordUsage([{ keyId: id, hour, requests: 100, refused: 0 }], () => {});

    time += 20_000;
    expect(await spend([node], plaintext, 1)).toBe(1);
    await eventually(async () => expect(await ledger()).toBe(106));
    expect(await usedAt(node, plaintext), 'nobody told').toBe(6);
    time += 11_000;
    await eventually(async () => expect(await usedAt(node, plaintext)).toBe(106));
  });
});
