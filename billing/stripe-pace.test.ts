import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { createStripe } from './stripe-client.ts';

let server: Server;
afterEach(() => void server.close());

/** A Stripe that answers each call with the next status, and 200 when there is none left. */
async function startStripe(...statuses: number[]): Promise<{ apiBase: string; arrivals: number[] }> {
  const arrivals: number[] = [];
  server = createServer((_request, response) => {
    arrivals.push(performance.now());
    const status = statuses.shift() ?? 200;
    const body =
      status === 200 ? { id: 'cus_1', object: 'customer' } : { error: { type: 'invalid_request_error' } };
    response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { apiBase: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, arrivals };
}

it('keeps below Stripe’s limit, however many calls are wanted at once', async () => {
  const { apiBase, arrivals } = await startStripe();
  const stripe = createStripe({ secretKey: 'sk_test_pace', apiBase, requestsPerSecond: 25 });
  const start = performance.now();
  await Promise.all(Array.from({ length: 60 }, () => stripe.customers.retrieve('cus_1')));
  expect(arrivals).toHaveLength(60);
  // Twenty a second, in slices of five: the last slice begins after eleven others.
  expect(performance.now() - start).toBeGreaterThan(11 * 250 - 50);
});

it('429 is waited out with growing pauses, and given up only when it stays', async () => {
  const { apiBase, arrivals } = await startStripe(429, 429);
  const stripe = createStripe({ secretKey: 'sk_test_pace', apiBase, requestsPerSecond: null });
  const start = performance.now();
  expect(await stripe.customers.retrieve('cus_1')).toMatchObject({ id: 'cus_1' });
  expect(arrivals).toHaveLength(3);
  expect(performance.now() - start).toBeGreaterThan(250 + 500 - 20);
});

it('a buyer’s page does not wait behind the work of the inbox', async () => {
  const { apiBase, arrivals } = await startStripe(429);
  const stripe = createStripe({ secretKey: 'sk_test_pace', apiBase, requestsPerSecond: 1 }, 'page');
  await expect(stripe.customers.retrieve('cus_1')).rejects.toMatchObject({ statusCode: 429 });
  expect(arrivals).toHaveLength(1);
});
