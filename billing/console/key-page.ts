import type { Response } from 'express';
import type { KeyRecord } from '../../keystore/keystore.ts';
import { REVOKED_BECAUSE } from '../../shared/access.ts';
import { planFor, planOfKey } from '../../shared/plans.ts';
import { ProblemError, problem as problemOf } from '../../shared/problems.ts';
import { typedWindows } from '../../shared/windows.ts';
import { answerStatus } from '../answer-status.ts';
import type { Billing } from '../context.ts';
import { overrideText, windowText } from '../pages.ts';
import { accessNow, STATE_TONES } from './key-states.ts';
import { sendConsolePage, shortTime } from './page.ts';
import { usageChart } from './usage-chart.ts';

const DAY_MS = 86_400_000;
const CHART_DAYS = 30;
const ATTEMPTS = 20;

/**
 * Answers with the page of a key: how it stands and why, whose it is, what it used, its devices, and all that was done to it.
 *
 * @param problem why what was just asked for was not done
 * @throws ProblemError `not_found`
 */
export async function showKeyPage(
  billing: Billing,
  response: Response,
  id: string,
  problem?: ProblemError,
): Promise<void> {
  const { keystore } = billing;
  const key = await keystore.findKey(id);
  if (!key) throw new ProblemError('not_found', 'There is no key with this id.');
  const today = Math.floor(Date.now() / DAY_MS);
  const firstDay = today - CHART_DAYS + 1;
  const [history, usage, attempts, devices] = await Promise.all([
    keystore.keyHistory(id),
    keystore.usageByDay({ rootId: key.rootId, sinceDay: firstDay }),
    keystore.listLicenceAttempts({ keyId: id, limit: ATTEMPTS }),
    devicesOf(billing, key),
  ]);
  if (problem) answerStatus(response, problem);
  const access = accessNow(key, billing.plans);
  sendConsolePage(response, 'key', {
    problem: problem?.toProblem(response.locals.requestId),
    address: `/console/keys/${key.id}`,
    key: { id: key.id, lastFour: key.lastFour, name: key.name ?? '' },
    state: { name: access.state, tone: STATE_TONES[access.state], why: whyOf(billing, key) },
    facts: factsOf(billing, key),
    links: { replacedBy: key.replacedBy, first: key.rootId === key.id ? null : key.rootId },
    quota: quotaOf(billing, key),
    chart: usageChart(usage, firstDay, today),
    devices,
    attempts: attempts.map((attempt) => ({ ...attempt, at: shortTime(attempt.at) })),
    history: history.reverse().map((entry) => ({ ...entry, at: shortTime(entry.at) })),
    addresses: key.allowedAddresses?.join('\n') ?? '',
    expires: key.expiresAt === null ? '' : new Date(key.expiresAt).toISOString().slice(0, 16),
    override: {
      limits: typedWindows(key.override?.limits ?? []).join('\n'),
      quota: key.override?.quota ?? '',
    },
    may: {
      suspend: key.revokedAt === null && key.suspendedAt === null,
      resume: key.revokedAt === null && key.suspendedAt !== null,
      override: key.revokedAt === null,
      revoke: key.revokedAt === null,
      rotate: key.replacedBy === null && key.revokedAt === null && access.state !== 'expired',
      expire: key.replacedBy === null && key.revokedAt === null,
    },
  });
}

/** Why a key is in its state. */
function whyOf({ plans }: Billing, key: KeyRecord): string {
  const access = accessNow(key, plans);
  if (access.state === 'revoked') return REVOKED_BECAUSE[key.revokedReason ?? 'operator'];
  const status = key.subscription ? ` The subscription is ${key.subscription.status}.` : '';
  if (access.state !== 'active') return `${problemOf(access.code).title} (${access.code}).${status}`;
  return access.until === null
    ? `Nothing stands against it.${status}`
    : `Until ${shortTime(access.until)} UTC, as things stand.${status}`;
}

/** What there is to say of a key, by name. */
function factsOf({ plans }: Billing, key: KeyRecord): [name: string, value: string][] {
  const time = (ms: number | null) => (ms === null ? null : `${shortTime(ms)} UTC`);
  const plan = plans.plan(key.planId);
  const facts: [string, string | null][] = [
    ['Plan', plan ? `${plan.name} (${plan.id})` : `${key.planId}: not in the catalogue`],
    ['Quantity', key.quantity === 1 ? null : key.quantity.toLocaleString('en')],
    ['E-mail', key.email],
    ['Customer', key.customerId],
    ['Customer at Stripe', key.stripeCustomerId],
    ['Subscription', key.subscriptionId],
    ['Status at Stripe', key.subscription?.status ?? null],
    ['Paid until', time(key.subscription?.currentPeriodEnd ?? null)],
    ['Canceled as of', time(key.subscription?.cancelAt ?? null)],
    ['Suspended by the seller', time(key.suspendedAt)],
    ['Suspended because', key.suspendedNote],
    ['In dispute since', time(key.disputedSince)],
    ['Purchase', key.purchaseId],
    ['Made', time(key.createdAt)],
    ['First used', time(key.firstUsedAt) ?? 'not yet'],
    ['Expires', time(key.expiresAt)],
    ['Revoked', time(key.revokedAt)],
    ['Entitled to', key.entitlements.length === 0 ? null : key.entitlements.join(', ')],
    ['Limits of its own', key.override && overrideText(key.override)],
    ["The plan's limits", key.override && plan ? overrideText(planFor(plan, key.quantity)) : null],
    ['Used from', key.allowedAddresses?.join(', ') ?? 'any address'],
  ];
  return facts.filter((fact): fact is [string, string] => fact[1] !== null);
}

function quotaOf({ plans }: Billing, key: KeyRecord) {
  const sold = plans.plan(key.planId);
  const plan = sold && planOfKey(sold, key);
  const perMonth = plan?.quotaPer !== 'purchase';
  const used = perMonth ? key.usedThisMonth : (key.usedInAll ?? key.usedThisMonth);
  return {
    used: used.toLocaleString('en'),
    of: plan?.quota?.toLocaleString('en') ?? null,
    percent: plan?.quota ? Math.min(100, Math.floor((100 * used) / plan.quota)) : null,
    perMonth,
    limits: plan?.limits.map(windowText) ?? [],
  };
}

/** The devices that a licence works on; `null`: the plan has none. */
async function devicesOf({ keystore, plans }: Billing, key: KeyRecord) {
  const plan = plans.plan(key.planId);
  const licence = plan && planFor(plan, key.quantity).licence;
  if (!licence) return null;
  const devices = await keystore.listDevices({ rootId: key.rootId, places: licence });
  return {
    places: licence.devices,
    list: devices.map((device) => ({
      ...device,
      activatedAt: shortTime(device.activatedAt),
      lastSeenAt: shortTime(device.lastSeenAt),
    })),
  };
}
