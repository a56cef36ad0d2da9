import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { watchEntitlements } from './active-entitlements.ts';
import { type Exchange, handleApi } from './api.ts';
import { Clock } from './clock.ts';
import { handleControl } from './control.ts';
import type { StripeEvent } from './events.ts';
import { IdempotencyKeys } from './idempotency.ts';
import { handlePage } from './pages.ts';
import { type DeliveryOptions, WebhookDelivery } from './webhook-delivery.ts';
import { createEndpoint, secretOf } from './webhook-endpoints.ts';
import { newWorld, type Settings } from './world.ts';

export interface SandboxOptions extends DeliveryOptions {
  /** Default 127.0.0.1. */
  host?: string;
  /** 0, the default, takes any free port. */
  port?: number;
  /** Base of the addresses of hosted pages; default the address listened on. */
  publicUrl?: string;
  /** Real time in milliseconds; default `Date.now`. */
  now?: () => number;
  /** After how many milliseconds of sandbox time a delayed payment settles by itself; null, the default: only when told. */
  settleDelayedAfterMs?: number | null;
  /** Sees every answer of the API. */
  onExchange?: (exchange: Exchange) => void;
  /** Sees every event emitted. */
  onEvent?: (event: StripeEvent) => void;
}

export interface Sandbox {
  /** Such as `http://127.0.0.1:8012`. */
  url: string;
  port: number;
  /** Registers a webhook endpoint for all events, whole or thin, and gives its signing secret. */
  listen(webhookUrl: string, options?: { thin?: boolean }): { id: string; secret: string };
  /** Stops at once: open connections, deliveries, retries and timers included. */
  close(): Promise<void>;
}

/**
 * Starts an offline Stripe: the API under `/v1/`, hosted pages, and a control API under `/_sandbox/`.
 *
 * @throws the listen error, such as EADDRINUSE.
 */
export async function startSandbox(options: SandboxOptions = {}): Promise<Sandbox> {
  const { host = '127.0.0.1', port = 0, now = Date.now } = options;
  const settings: Settings = {
    after_final_retry: 'canceled',
    retry_days: [3, 5, 7],
    draft_seconds: 3600,
    settle_delayed_after_ms: options.settleDelayedAfterMs ?? null,
  };
  const world = newWorld({
    clock: new Clock(now),
    delivery: new WebhookDelivery(options),
    settings,
    publicUrl: '',
    onEvent: options.onEvent,
  });
  watchEntitlements(world);
  const api = { world, keys: new IdempotencyKeys(), onExchange: options.onExchange };

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://sandbox');
    if (url.pathname.startsWith('/v1/') || url.pathname.startsWith('/v2/'))
      await handleApi(api, request, response, url);
    else if (url.pathname.startsWith('/_sandbox/')) await handleControl(api, request, response, url);
    else await handlePage(world, request, response, url);
  }

  const server = createServer((request, response) => {
    handle(request, response).catch(() => {
      if (!response.headersSent) response.writeHead(400, { 'Content-Type': 'text/plain' });
      response.end();
    });
  });
  // Longer than a client's idle connection lives, so that none is reset under a request.
  server.keepAliveTimeout = 65_000;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
  const address = server.address() as AddressInfo;
  const shownHost =
    host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host.includes(':') ? `[${host}]` : host;
  const url = `http://${shownHost}:${address.port}`;
  world.publicUrl = (options.publicUrl ?? url).replace(/\/+$/, '');

  return {
    url,
    port: address.port,
    listen(webhookUrl, { thin = false } = {}) {
      const endpoint = createEndpoint(world, { url: webhookUrl, enabled_events: ['*'] }, thin);
      return { id: endpoint.id, secret: secretOf(endpoint) };
    },
    close() {
      world.clock.stop();
      world.delivery.close();
      return new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });
    },
  };
}
