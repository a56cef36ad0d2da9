import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { accountRoutes } from './account.ts';
import { activeEntitlementRoutes } from './active-entitlements.ts';
import { authenticate } from './authentication.ts';
import { checkoutSessionRoutes } from './checkout-session-routes.ts';
import { customerRoutes } from './customers.ts';
import { disputeRoutes } from './disputes.ts';
import { inPresentTerms } from './earlier-parameters.ts';
import { entitlementFeatureRoutes } from './entitlement-features.ts';
import { invalid, StripeError } from './errors.ts';
import { eventDestinationRoutes } from './event-destinations.ts';
import { eventRoutes } from './events.ts';
import { expanded } from './expand.ts';
import { decodeForm, fromJson, type RawBranch } from './form.ts';
import type { IdempotencyKeys, StoredAnswer } from './idempotency.ts';
import { base62 } from './ids.ts';
import { invoiceCreateRoutes } from './invoice-create.ts';
import { invoiceItemRoutes } from './invoice-items.ts';
import { invoiceRoutes } from './invoice-routes.ts';
import { parseParams } from './params.ts';
import { paymentIntentCreateRoutes } from './payment-intent-create.ts';
import { paymentLinkRoutes } from './payment-links.ts';
import { paymentMethodCreateRoutes } from './payment-method-create.ts';
import { paymentMethodRoutes } from './payment-methods.ts';
import { paymentPageRoutes } from './payment-pages.ts';
import { paymentRoutes } from './payment-routes.ts';
import { portalConfigurationRoutes } from './portal-configurations.ts';
import { portalSessionRoutes } from './portal-sessions.ts';
import { priceRoutes } from './prices.ts';
import { productRoutes } from './products.ts';
import { refundRoutes } from './refunds.ts';
import { readBody } from './request-body.ts';
import type { Route } from './routes.ts';
import { subscriptionCreateRoutes } from './subscription-create.ts';
import { subscriptionRoutes } from './subscriptions.ts';
import { webhookEndpointRoutes } from './webhook-endpoints.ts';
import { apiVersion, type Fault, type World } from './world.ts';

/** Every route of the API. */
export const routes: Route[] = [
  ...productRoutes,
  ...priceRoutes,
  ...customerRoutes,
  ...paymentMethodCreateRoutes,
  ...paymentMethodRoutes,
  ...checkoutSessionRoutes,
  ...paymentPageRoutes,
  ...paymentLinkRoutes,
  ...subscriptionCreateRoutes,
  ...subscriptionRoutes,
  ...invoiceCreateRoutes,
  ...invoiceItemRoutes,
  ...invoiceRoutes,
  ...paymentIntentCreateRoutes,
  ...paymentRoutes,
  ...refundRoutes,
  ...disputeRoutes,
  ...entitlementFeatureRoutes,
  ...activeEntitlementRoutes,
  ...eventRoutes,
  ...eventDestinationRoutes,
  ...webhookEndpointRoutes,
  ...portalConfigurationRoutes,
  ...portalSessionRoutes,
  ...accountRoutes,
];

interface Match {
  route: Route;
  id: string;
  /** The id before the last, where a path has two. */
  owner: string;
}

interface Matcher {
  route: Route;
  pattern: RegExp;
}
const matchers: Matcher[] = routes.map((route) => ({
  route,
  pattern: new RegExp(`^${route.path.replaceAll(/:\w+/g, '([^/]+)')}$`),
}));

/** One answer of the API, for tests that check every one of them. */
export interface Exchange {
  method: string;
  path: string;
  /** The route that answered, such as `/v1/products/:id`; null when there was none. */
  route: string | null;
  status: number;
  body: unknown;
}

export interface Api {
  world: World;
  keys: IdempotencyKeys;
  onExchange?: ((exchange: Exchange) => void) | undefined;
}

/** Answers one request under `/v1/` or `/v2/`. */
export async function handleApi(
  api: Api,
  request: IncomingMessage,
  response: ServerResponse,
  url: URL,
): Promise<void> {
  const requestId = `req_${base62(14)}`;
  const { method = 'GET' } = request;
  const headers: Record<string, string> = {
    'Content-Type': 'application/json',
    'Cache-Control': 'no-cache, no-store',
    'Request-Id': requestId,
    'Stripe-Version': apiVersion,
  };
  const key = method === 'POST' ? request.headers['idempotency-key']?.toString() : undefined;
  if (key !== undefined) headers['Idempotency-Key'] = key;
  const matched = match(method, url.pathname);
  let claimed = false;
  let answer: StoredAnswer;
  try {
    authenticate(request.headers.authorization);
    const version = request.headers['stripe-version']?.toString();
    requireVersion(version);
    const written = await readParams(request, url);
    const raw = version === undefined ? inPresentTerms(url.pathname, written) : written;
    if (!matched) throw unrecognized(method, url.pathname);
    const stored = claim(api, key, url.pathname, raw);
    claimed = key !== undefined && stored === undefined;
    const fault = takeFault(api.world, url.pathname);
    if (fault && !fault.after) await suffer(fault, response);
    if (stored) headers['Idempotent-Replayed'] = 'true';
    answer = stored ?? execute(api, matched, raw, requestId, key);
    if (fault?.after) await suffer(fault, response);
  } catch (error) {
    if (claimed && key !== undefined) api.keys.release(key);
    const failure = asStripeError(error);
    if (failure.status === 429 || failure.status >= 500) headers['Stripe-Should-Retry'] = 'true';
    answer = { status: failure.status, body: errorText(failure, requestId), requestId };
  }
  if (response.destroyed) return;
  api.onExchange?.({
    method,
    path: url.pathname,
    route: matched?.route.path ?? null,
    status: answer.status,
    body: JSON.parse(answer.body),
  });
  response.writeHead(answer.status, headers).end(answer.body);
}

function match(method: string, path: string): Match | undefined {
  for (const { route, pattern } of matchers) {
    if (route.method !== method) continue;
    const found = pattern.exec(path);
    // A search is not an object of that id: the sandbox has no search.
    if (!found || found[1] === 'search') continue;
    const ids = found.slice(1).map(decodeURIComponent);
    return { route, id: ids.at(-1) ?? '', owner: ids.at(-2) ?? '' };
  }
  return undefined;
}

async function readParams(request: IncomingMessage, url: URL): Promise<RawBranch> {
  const body = await readBody(request);
  if (url.pathname.startsWith('/v2/') && body !== '') return fromJson(body);
  const type = request.headers['content-type'] ?? '';
  if (body !== '' && !type.startsWith('application/x-www-form-urlencoded')) {
    throw invalid(
      'Invalid request (check that your POST content type is application/x-www-form-urlencoded). If you have questions, we can help at https://support.stripe.com/.',
    );
  }
  return decodeForm(body, decodeForm(url.search.slice(1)));
}

function claim(api: Api, key: string | undefined, path: string, raw: RawBranch): StoredAnswer | undefined {
  if (key === undefined) return undefined;
  if (key.length > 255) throw invalid('Idempotency-Key must be at most 255 characters.');
  return api.keys.begin(key, path, JSON.stringify(raw), api.world.clock.now());
}

/** Runs a route. Once parameters are read, the outcome is what the idempotency key stands for, good or bad. */
function execute(
  api: Api,
  { route, id, owner }: Match,
  raw: RawBranch,
  requestId: string,
  key: string | undefined,
): StoredAnswer {
  const { world } = api;
  const params = parseParams(route.shape, raw);
  world.request = { id: requestId, idempotency_key: key ?? null };
  let answer: StoredAnswer;
  try {
    const result = route.handle(world, params, id, owner);
    const body = expanded(world, result, params.expand as string[] | undefined);
    answer = { status: 200, body: JSON.stringify(body, null, 2), requestId };
  } catch (error) {
    const failure = asStripeError(error);
    answer = { status: failure.status, body: errorText(failure, requestId), requestId };
  } finally {
    world.request = null;
  }
  if (key !== undefined) api.keys.store(key, answer);
  return answer;
}

function errorText({ body }: StripeError, requestId: string): string {
  const log = `https://dashboard.stripe.com/test/logs/${requestId}`;
  return JSON.stringify({ error: { ...body, request_log_url: log } }, null, 2);
}

function asStripeError(error: unknown): StripeError {
  if (error instanceof StripeError) return error;
  const detail = error instanceof Error ? error.message : 'unknown';
  return new StripeError(500, { type: 'api_error', message: `The sandbox itself failed: ${detail}` });
}

function requireVersion(version: string | undefined): void {
  if (version === undefined || version === apiVersion) return;
  throw invalid(
    `The sandbox speaks only the Stripe API version ${apiVersion}; you asked for ${version.slice(0, 40)}.`,
  );
}

function unrecognized(method: string, path: string): StripeError {
  return new StripeError(404, {
    type: 'invalid_request_error',
    message: `Unrecognized request URL (${method}: ${path}). Please see https://stripe.com/docs or we can help at https://support.stripe.com/. (The sandbox knows only part of Stripe: see sandbox/README.md.)`,
  });
}

function takeFault(world: World, path: string): Fault | undefined {
  const fault = world.faults.find(
    ({ paths }) => paths.length === 0 || paths.some((start) => path.startsWith(start)),
  );
  if (!fault) return undefined;
  fault.count -= 1;
  world.faults = world.faults.filter(({ count }) => count > 0);
  return fault;
}

async function suffer(fault: Fault, response: ServerResponse): Promise<void> {
  if (fault.hang_ms > 0) await sleep(fault.hang_ms, undefined, { ref: false });
  if (fault.drop_connection) {
    response.destroy();
    throw new StripeError(500, { type: 'api_error', message: 'The connection was dropped.' });
  }
  if (fault.status === 429) {
    throw new StripeError(429, {
      type: 'invalid_request_error',
      code: 'rate_limit',
      message:
        'Request rate limit exceeded. You can learn more about rate limits here https://stripe.com/docs/rate-limits.',
    });
  }
  if (fault.status !== null) {
    throw new StripeError(fault.status, {
      type: 'api_error',
      message: 'An unknown error occurred (a fault ordered through the sandbox).',
    });
  }
}
