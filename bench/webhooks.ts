// Sends events of the sandbox, oldest first, to billing's webhook, signed as Stripe signs them: at a steady rate, each at
// its time however slow the answers are, or, with rate 0, as fast as 32 connections take them. Prints what came back.
import { createHmac } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { Pool } from 'undici';

const [, , sandboxUrl = '', billingUrl = '', secret = '', first = '0', count = '0', rate = '0'] =
  process.argv;
const CONNECTIONS = 32;

const all = await readEvents();
const bodies =
  count === 'all' ? all.slice(Number(first)) : all.slice(Number(first), Number(first) + Number(count));
if (count !== 'all' && bodies.length < Number(count))
  throw new Error(`There are only ${all.length} events, not ${first} and ${count} more`);
const pool = new Pool(billingUrl, { connections: Number(rate) > 0 ? 256 : CONNECTIONS });
const latencies: number[] = [];
let refused = 0;
const startedAt = Date.now();
const start = performance.now();
if (Number(rate) > 0) {
  const interval = 1000 / Number(rate);
  await Promise.all(
    bodies.map(async (body, index) => {
      const intended = start + index * interval;
      await pause(Math.max(0, intended - performance.now()));
      await send(body);
      // From when it was to be sent: a late start of ours counts as waiting too.
      latencies.push(performance.now() - intended);
    }),
  );
} else {
  let next = 0;
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      while (next < bodies.length) await send(bodies[next++] as string);
    }),
  );
}
const seconds = (performance.now() - start) / 1000;
if (refused > 0) throw new Error(`${refused} webhooks were not answered 200`);
latencies.sort((a, b) => a - b);
const quantile = (q: number) =>
  latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * q))] ?? 0;
process.stdout.write(
  JSON.stringify({ sent: bodies.length, startedAt, seconds, p50: quantile(0.5), p99: quantile(0.99) }),
);
await pool.close();

async function send(body: string): Promise<void> {
  const timestamp = Math.floor(Date.now() / 1000);
  const signature = createHmac('sha256', secret).update(`${timestamp}.${body}`).digest('hex');
  const answer = await pool.request({
    method: 'POST',
    path: '/billing/webhook',
    headers: { 'content-type': 'application/json', 'stripe-signature': `t=${timestamp},v1=${signature}` },
    body,
  });
  await answer.body.dump();
  if (answer.statusCode !== 200) refused += 1;
}

async function readEvents(): Promise<string[]> {
  const found: string[] = [];
  let after = '';
  for (;;) {
    const answer = await fetch(`${sandboxUrl}/v1/events?limit=100${after}`, {
      headers: { Authorization: 'Bearer sk_test_bench' },
    });
    const { data, has_more } = (await answer.json()) as { data: { id: string }[]; has_more: boolean };
    found.push(...data.map((event) => JSON.stringify(event)));
    if (!has_more) return found.reverse();
    after = `&starting_after=${data.at(-1)?.id}`;
  }
}
