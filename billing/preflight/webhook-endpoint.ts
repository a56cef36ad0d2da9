import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  createEndpoint,
  type EndpointLook,
  lookAtEndpoints,
  NEWEST_VERSION,
  repairEndpoint,
} from '../stripe-endpoints.ts';
import { WEBHOOK_PATHS } from '../webhook.ts';
import {
  type Check,
  type Finding,
  ok,
  type PreflightContext,
  repairCommand,
  stop,
  warning,
} from './check.ts';

/** The first version of Stripe's API after there were checkout sessions. Of an event only the ids in it are read. */
const OLDEST_VERSION = '2019-09-09';

export const webhookEndpoint: Check = {
  id: 'webhook-endpoint',
  title: 'Stripe sends every event here',
  offline: false,
  async run(context) {
    const ours = await endpointsHere(context);
    const [endpoint] = ours.toSorted((a, b) => badness(a) - badness(b));
    if (!endpoint)
      return stop(
        `No webhook endpoint at Stripe has the address ${addresses(context)[0]}.`,
        `${repairCommand(context)} registers it.`,
      );
    return findingOf(context, endpoint, ours.filter(({ enabled }) => enabled).length);
  },
  async repair(context) {
    const ours = await endpointsHere(context);
    const broken = ours.filter((endpoint) => badness(endpoint) > 0 && !endpoint.thin);
    if (ours.length === 0) return registerEndpoint(context);
    if (broken.length === 0 || broken.length < ours.length) return null;
    const { id } = broken[0] as EndpointLook;
    await repairEndpoint(context.stripe, id);
    return `The endpoint ${id} is enabled and gets every event that is handled.`;
  },
};

/** Those that lead here: at the public address of billing. */
async function endpointsHere(context: PreflightContext): Promise<EndpointLook[]> {
  const here = addresses(context);
  return (await lookAtEndpoints(context.stripe)).filter(({ url }) => here.includes(url));
}

function addresses({ config }: PreflightContext): string[] {
  return WEBHOOK_PATHS.map((path) => `${config.publicBillingUrl}${path}`);
}

function badness({ enabled, missingEvents }: EndpointLook): number {
  return (enabled ? 0 : 1000) + missingEvents.length;
}

function findingOf(context: PreflightContext, endpoint: EndpointLook, enabledHere: number): Finding {
  const { id, enabled, missingEvents, apiVersion } = endpoint;
  const repair = repairCommand(context);
  if (!enabled) return stop(`The endpoint ${id} is disabled at Stripe.`, `${repair} enables it.`);
  if (missingEvents.length > 0)
    return stop(
      `The endpoint ${id} is not sent ${missingEvents.join(', ')}.`,
      `${repair} adds what is missing.`,
    );
  if (apiVersion !== null && apiVersion < OLDEST_VERSION) {
    return stop(
      `The endpoint ${id} gets events of API version ${apiVersion}; those from ${OLDEST_VERSION} on are understood.`,
      `Register the endpoint anew at version ${NEWEST_VERSION}: an endpoint's version cannot be changed.`,
    );
  }
  if (apiVersion !== null && apiVersion > NEWEST_VERSION) {
    return warning(
      `The endpoint ${id} gets events of API version ${apiVersion}, newer than ${NEWEST_VERSION}, the newest that this was tried with.`,
      `Register the endpoint anew at version ${NEWEST_VERSION}, or upgrade Tollgate.`,
    );
  }
  if (enabledHere > 1) {
    return warning(
      `${enabledHere} endpoints at Stripe lead here, each with a signing secret of its own: what is sent to the others is refused.`,
      'Delete all but the one whose secret is in STRIPE_WEBHOOK_SECRET.',
    );
  }
  return ok(`The endpoint ${id} gets every event that is handled.`);
}

/**
 * Registers an endpoint. Its signing secret goes into a file that only its owner may read: a terminal is read by others, and kept.
 * The file is there first, since Stripe shows the secret once.
 */
async function registerEndpoint(context: PreflightContext): Promise<string> {
  const { config, now, stripe } = context;
  const [url = ''] = addresses(context);
  mkdirSync(config.dataDir, { recursive: true, mode: 0o700 });
  const stamp = new Date(now()).toISOString().replaceAll(/[-:]|\.\d+/g, '');
  const file = join(config.dataDir, `stripe-webhook-secret-${stamp}`);
  writeFileSync(file, '', { mode: 0o600, flag: 'wx' });
  try {
    writeFileSync(file, `${await createEndpoint(stripe, url)}\n`);
  } catch (error) {
    rmSync(file);
    throw error;
  }
  return `Registered ${url} at Stripe. Its signing secret is in ${file}: set STRIPE_WEBHOOK_SECRET_FILE to that, and restart billing.`;
}
