import { join } from 'node:path';
import { Eta } from 'eta';
import { type LeasedEvent, MAIL_TYPE, type MailKind, type Purchase } from '../keystore/keystore.ts';
import { accessOf, GOOD_STANDING } from '../shared/access.ts';
import type { Config } from '../shared/config.ts';
import type { Handled } from './handle-event.ts';
import { AddressRefused, type Mailer } from './mailer.ts';
import { timeText } from './pages.ts';
import { PROGRAM_ACTOR } from './purchase-state.ts';
import type { SettleContext } from './settle.ts';
import { lookAtCustomer } from './stripe-customers.ts';
import { findSessions, lookAtSubscription } from './stripe-look.ts';

/** What sending e-mail works with. */
export type MailContext = {
  mailer: Pick<Mailer, 'send'>;
  config: Pick<Config, 'publicBillingUrl' | 'productName' | 'supportEmail'>;
};

type Context = SettleContext & { mail: MailContext };

/** Whom to write (a customer, or an address that is to be shown) and what to put into the templates; or why there is nothing. */
type Letter =
  | { customerId: string | null; data: () => object | Promise<object> }
  | { to: string; data: () => object | Promise<object> }
  | { outcome: string };

const views = join(import.meta.dirname, 'mails');
const htmlTemplates = new Eta({ views, cache: true });
const textTemplates = new Eta({ views, cache: true, autoEscape: false });

const SUBJECTS: Record<MailKind, (productName: string) => string> = {
  receipt: (product) => `Your API key for ${product}`,
  key_rotated: (product) => `Your API key for ${product} was replaced`,
  payment_failed: (product) => `Your payment for ${product} failed`,
  recovery: (product) => `A new API key for ${product}`,
  trial_code: (product) => `Your code for a trial of ${product}`,
};

const LETTERS: Record<MailKind, (context: Context, subjectId: string) => Promise<Letter>> = {
  receipt,
  key_rotated: keyRotated,
  payment_failed: paymentFailed,
  recovery,
  trial_code: trialCode,
};

/**
 * Sends the mail that an event of the inbox asks for, to the address that Stripe has of the customer now, or to the one that
 * somebody has to show.
 *
 * @throws ProblemError when Stripe cannot be asked; Error when the mail could not be sent: the inbox tries again
 */
export async function sendMail(
  context: SettleContext,
  mail: MailContext | null,
  event: LeasedEvent,
): Promise<Handled> {
  const kind = event.type.slice(MAIL_TYPE.length) as MailKind;
  const subjectId = event.object?.id;
  if (!mail) return { outcome: 'mail_not_configured' };
  if (!subjectId || !Object.hasOwn(LETTERS, kind)) return { outcome: 'unhandled' };
  const letter = await LETTERS[kind]({ ...context, mail }, subjectId);
  if ('outcome' in letter) return letter;
  const to = 'to' in letter ? letter.to : letter.customerId && (await addressOf(context, letter.customerId));
  if (!to) return { outcome: 'no_address' };
  const { productName, supportEmail, publicBillingUrl } = mail.config;
  const frame = { productName, supportEmail, manageUrl: `${publicBillingUrl}/billing/manage` };
  const data = { ...(await letter.data()), frame, subject: SUBJECTS[kind](productName) };
  try {
    await mail.mailer.send({
      eventId: event.id,
      to,
      subject: data.subject,
      text: textTemplates.render(`./${kind}-text`, data),
      html: htmlTemplates.render(`./${kind}-html`, data),
    });
  } catch (error) {
    if (error instanceof AddressRefused) return { outcome: 'address_refused', failed: error.message };
    throw error;
  }
  return { outcome: 'sent' };
}

/** The e-mail address of a customer, as it is at Stripe now; `null`: none. */
async function addressOf({ keystore, stripe }: SettleContext, customerId: string): Promise<string | null> {
  const customer = await keystore.findCustomer(customerId);
  if (!customer?.stripeCustomerId) return customer?.email ?? null;
  return (await lookAtCustomer(stripe, customer.stripeCustomerId))?.email ?? null;
}

/** Links to the page where the key is claimed, and never has the key in it. */
async function receipt(context: Context, purchaseId: string): Promise<Letter> {
  const { keystore, mail, plans } = context;
  const purchase = await keystore.findPurchaseById(purchaseId);
  if (!purchase) return { outcome: 'not_found' };
  const { customerId } = purchase;
  const found = await sessionOf(context, purchase);
  if (!found) return { outcome: 'no_link' };
  const { sessionId, reveal } = found;
  const { state, expiresAt, claimedAt, claimedBy, lastFour } = reveal;
  if (state !== 'sealed' && state !== 'claimed') return { outcome: 'nothing_to_claim' };
  return {
    customerId,
    data: () => ({
      plan: planName(plans, purchase.planId),
      link: `${mail.config.publicBillingUrl}/billing/success?session_id=${sessionId}`,
      claimUntil: state === 'sealed' ? timeText(expiresAt) : null,
      claimedAt: claimedAt === null ? null : timeText(claimedAt),
      byProgram: claimedAt === null ? purchase.byProgram : claimedBy === PROGRAM_ACTOR,
      lastFour,
    }),
  };
}

/** The checkout of a purchase, whose id is kept nowhere here: Stripe lists it by what it led to. */
async function sessionOf({ keystore, stripe }: Context, purchase: Purchase) {
  const { subscriptionId, paymentIntentId, customerId } = purchase;
  const customer = customerId === null ? undefined : await keystore.findCustomer(customerId);
  const by = subscriptionId
    ? { subscription: subscriptionId }
    : paymentIntentId
      ? { payment_intent: paymentIntentId }
      : { customer: customer?.stripeCustomerId ?? null };
  for (const sessionId of await findSessions(stripe, by)) {
    const known = await keystore.findReveal(sessionId);
    if (known?.purchase.id === purchase.id && known.reveal) return { sessionId, reveal: known.reveal };
  }
  return undefined;
}

async function keyRotated({ keystore }: Context, keyId: string): Promise<Letter> {
  const key = await keystore.findKeyFacts(keyId);
  const old = await keystore.findPredecessor(keyId);
  if (!key || !old) return { outcome: 'not_found' };
  const worksUntil = old.revokedAt === null && (old.expiresAt ?? 0) > Date.now() ? old.expiresAt : null;
  return {
    customerId: key.customerId,
    data: () => ({
      newLastFour: key.lastFour,
      oldLastFour: old.lastFour,
      worksUntil: worksUntil === null ? null : timeText(worksUntil),
    }),
  };
}

async function paymentFailed({ keystore, plans, stripe }: Context, subscriptionId: string): Promise<Letter> {
  const subscription = await keystore.findSubscription(subscriptionId);
  if (!subscription?.hasLivingKey) return { outcome: 'no_keys' };
  // The mail may have waited for long.
  const look = await lookAtSubscription(stripe, subscriptionId);
  if (look?.status === 'active' || look?.status === 'trialing') return { outcome: 'paid_meanwhile' };
  if (look?.status !== 'past_due' && look?.status !== 'unpaid') return { outcome: 'ended_meanwhile' };
  const plan = plans.plan(subscription.planId);
  const pastDueSince = subscription.pastDueSince ?? look.pastDueSince;
  const access = accessOf(GOOD_STANDING, { status: look.status, pastDueSince }, plan ?? {}, Date.now());
  return {
    customerId: subscription.customerId,
    data: () => ({
      plan: planName(plans, subscription.planId),
      suspended: access.state !== 'active',
      accessEnds: access.state === 'active' && access.until !== null ? timeText(access.until) : null,
    }),
  };
}

/** One link for each key that could be the lost one. */
async function recovery({ keystore, mail, plans }: Context, customerId: string): Promise<Letter> {
  const keys = await keystore.recoverableKeys(customerId);
  if (keys.length === 0) return { outcome: 'no_keys' };
  return {
    customerId,
    async data() {
      const links: { lastFour: string; plan: string; url: string }[] = [];
      for (const { id, lastFour, planId } of keys) {
        const token = await keystore.createRecovery(id);
        const url = `${mail.config.publicBillingUrl}/billing/recover/key?token=${encodeURIComponent(token)}`;
        links.push({ lastFour, plan: planName(plans, planId), url });
      }
      return { links };
    },
  };
}

async function trialCode({ keystore, plans }: Context, trialId: string): Promise<Letter> {
  const trial = await keystore.findTrial(trialId);
  if (!trial?.email) return { outcome: 'trial_over' };
  return {
    to: trial.email,
    async data() {
      return { code: await keystore.createTrialCode(trialId), plan: planName(plans, trial.planId) };
    },
  };
}

function planName(plans: SettleContext['plans'], planId: string | null): string {
  return plans.plan(planId ?? '')?.name ?? planId ?? '';
}
