import { join } from 'node:path';
import { Eta } from 'eta';
import type { Request, Response } from 'express';
import type { Config } from '../shared/config.ts';
import { featureValue, type LimitsOverride, type Plan, type Window } from '../shared/plans.ts';
import { priceText } from '../shared/price-text.ts';

const eta = new Eta({ views: join(import.meta.dirname, 'views'), cache: true, autoTrim: false });

/** What every page shows, set on the app at its start. */
export type PageFrame = {
  productName: string;
  supportEmail: string | null;
  policies: Config['policies'];
  /** Whether Stripe is the sandbox: said on every page, so that nobody takes it for real. */
  sandbox: boolean;
  /** Whether a lost key can be replaced by e-mail. */
  mails: boolean;
};

/** Answers with a page from `billing/views/`. Every value is escaped by the template engine. */
export function sendPage(response: Response, view: string, data: object): void {
  response
    .type('html')
    .send(eta.render(`./${view}`, { frame: response.app.locals.frame as PageFrame, ...data }));
}

/** Whether the client would rather have a page than JSON: browsers do, `curl` and API clients do not. */
export function wantsPage(request: Request): boolean {
  return request.accepts(['json', 'html']) === 'html';
}

/** `600 requests a minute`. */
export function windowText({ name, requests, seconds }: Window): string {
  const count = requests.toLocaleString('en');
  const named = ['second', 'minute', 'hour', 'day'].includes(name);
  return `${count} request${requests === 1 ? '' : 's'} ${named ? `${name === 'hour' ? 'an' : 'a'} ${name}` : `in ${seconds} seconds`}`;
}

/** `600 requests a minute, a quota of 50,000`. */
export function overrideText({ limits, quota }: LimitsOverride): string {
  const texts = (limits ?? []).map(windowText);
  if (quota !== null) texts.push(`a quota of ${quota.toLocaleString('en')}`);
  return texts.join(', ') || 'none';
}

/** What a page says of a plan. */
export function planText(plan: Plan) {
  return {
    id: plan.id,
    name: plan.name,
    description: plan.description,
    price: priceText(plan.price) ?? 'Price shown at checkout',
    limits: plan.limits.map(windowText),
    requests: requestTexts(plan),
    terms: termTexts(plan),
    features: plan.features.map((name) => featureText(name, featureValue(plan, name))),
  };
}

/** How many requests a plan allows. One that is for devices alone says nothing of them. */
function requestTexts({ limits, quota, quotaPer, licence }: Plan): string[] {
  if (licence !== null && limits.length === 0 && quota === null) return [];
  const windows = limits.length === 0 ? ['No rate limit'] : limits.map(windowText);
  if (quota === null) return [...windows, 'No monthly quota'];
  return [
    ...windows,
    `${quota.toLocaleString('en')} requests ${quotaPer === 'month' ? 'a month' : 'in all'}`,
  ];
}

function termTexts({ trial, accessDays, licence }: Plan): string[] {
  const texts: string[] = [];
  if (licence) {
    const { devices, freeAfterMs } = licence;
    const what = freeAfterMs === null ? 'device' : 'floating seat';
    texts.push(`${devices.toLocaleString('en')} ${what}${devices === 1 ? '' : 's'}`);
  }
  if (trial) texts.push(`${trial.days} day${trial.days === 1 ? '' : 's'} free to try`);
  if (accessDays !== null) texts.push(`Works for ${accessDays} day${accessDays === 1 ? '' : 's'}`);
  return texts;
}

/** `email-support` as `Email support`, `projects` with the value 10 as `Projects: 10`. */
function featureText(feature: string, value: string | number | undefined): string {
  const words = feature.replaceAll(/[-_.]/g, ' ');
  const named = words.charAt(0).toUpperCase() + words.slice(1);
  return value === undefined ? named : `${named}: ${value.toLocaleString('en')}`;
}

/** A day as a page shows it, in UTC: `21 November 2026`. */
export function dayText(timeMs: number): string {
  return new Intl.DateTimeFormat('en-GB', { dateStyle: 'long', timeZone: 'UTC' }).format(timeMs);
}

/** A moment as a page shows it, in UTC: `21 November 2026, 09:30 UTC`. */
export function timeText(timeMs: number): string {
  const format = new Intl.DateTimeFormat('en-GB', { dateStyle: 'long', timeStyle: 'short', timeZone: 'UTC' });
  return `${format.format(timeMs).replace(' at ', ', ')} UTC`;
}
