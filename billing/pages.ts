import { join } from 'node:path';
import { Eta } from 'eta';
import type { Request, Response } from 'express';
import { moneyText } from '../shared/currency.ts';
import type { Plan, Price, Window } from '../shared/plans.ts';

const eta = new Eta({ views: join(import.meta.dirname, 'views'), cache: true, autoTrim: false });

/** What every page shows, set on the app at its start. */
export type PageFrame = {
  productName: string;
  supportEmail: string | null;
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

/** `$19 a month`, in words a buyer reads. */
export function priceText(price: Price | null): string {
  if (!price) return 'Price shown at checkout';
  const text = moneyText(price.unitAmount, price.currency);
  if (price.unitAmount === 0) return text;
  return price.interval ? `${text} a ${price.interval}` : `${text} once`;
}

/** `600 requests a minute`. */
export function windowText({ name, requests, seconds }: Window): string {
  const count = requests.toLocaleString('en');
  const named = ['second', 'minute', 'hour', 'day'].includes(name);
  return `${count} request${requests === 1 ? '' : 's'} ${named ? `${name === 'hour' ? 'an' : 'a'} ${name}` : `in ${seconds} seconds`}`;
}

/** What a page says of a plan. */
export function planText(plan: Plan) {
  return {
    id: plan.id,
    name: plan.name,
    description: plan.description,
    price: priceText(plan.price),
    limits: plan.limits.map(windowText),
    quota: quotaText(plan),
    terms: termTexts(plan),
    features: plan.features.map(featureText),
  };
}

function quotaText({ quota, quotaPer }: Plan): string {
  if (quota === null) return 'No monthly quota';
  return `${quota.toLocaleString('en')} requests ${quotaPer === 'month' ? 'a month' : 'in all'}`;
}

function termTexts({ trial, accessDays }: Plan): string[] {
  const texts: string[] = [];
  if (trial) texts.push(`${trial.days} day${trial.days === 1 ? '' : 's'} free to try`);
  if (accessDays !== null) texts.push(`Works for ${accessDays} day${accessDays === 1 ? '' : 's'}`);
  return texts;
}

/** `email-support` as `Email support`. */
function featureText(feature: string): string {
  const words = feature.replaceAll(/[-_.]/g, ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
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
