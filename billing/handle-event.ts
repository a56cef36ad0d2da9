import { type EventObject, type LeasedEvent, MAIL_TYPE } from '../keystore/keystore.ts';
import { type MailContext, sendMail } from './mail.ts';
import { type SettleContext, settle } from './settle.ts';
import { settleCustomer } from './settle-customer.ts';
import { settleIncome } from './settle-income.ts';
import { settlePayment } from './settle-payment.ts';
import { settleSubscription } from './settle-subscription.ts';
import type { EventKind } from './stripe-events.ts';
import { lookAtIncomeOfCharge, lookAtIncomeOfSession, lookAtInvoice } from './stripe-income.ts';
import { lookAtEvent, lookAtThinEvent } from './stripe-look.ts';
import { lookAtDispute, lookAtRefund } from './stripe-payments.ts';

/** What working on events needs. Without `mail` this process sends none, and leaves them to one that does. */
export type InboxContext = SettleContext & { mail?: MailContext | null };

/** What working on an event came to. `failed`: a person has to act, so it is kept and can be sent again. */
export type Handled = { outcome: string; failed?: string };

/**
 * Looks at what an event is about, and writes what is true now. The type of the event says nothing more: what happened
 * is read from Stripe, so that order and repetition do not matter.
 *
 * @param sessionId the checkout session the event is about, if it is still known; else Stripe is asked
 * @throws ProblemError when Stripe cannot be asked; KeystoreError when nothing could be written
 */
export async function handleEvent(
  context: InboxContext,
  event: LeasedEvent,
  sessionId: string | null,
): Promise<Handled> {
  const { object, type } = event;
  if (type.startsWith(MAIL_TYPE)) return sendMail(context, context.mail ?? null, event);
  if (!object) return { outcome: 'unhandled' };
  const id = object.id ?? sessionId ?? (await sessionOf(context, event));
  if (id === null) return { outcome: 'not_found', failed: 'Stripe does not know this event any more.' };
  return handleObject(context, { kind: object.kind, id }, `stripe:${event.id}`);
}

async function handleObject(
  context: SettleContext,
  { kind, id }: EventObject,
  actor: string,
): Promise<Handled> {
  const { stripe } = context;
  switch (kind as EventKind) {
    case 'session':
      return settleSession(context, id, actor);
    case 'subscription':
      return answerOf(await settleSubscription(context, id, actor));
    case 'invoice': {
      const look = await lookAtInvoice(stripe, id);
      // Access first: it does not wait for what is only counted.
      const access = look?.subscriptionId
        ? answerOf(await settleSubscription(context, look.subscriptionId, actor))
        : null;
      const income = await settleIncome(context, (await look?.income()) ?? null);
      return access ?? income;
    }
    case 'charge':
      return settleCharge(context, id, actor);
    case 'refund':
    case 'dispute': {
      const look = await (kind === 'refund' ? lookAtRefund(stripe, id) : lookAtDispute(stripe, id));
      return look?.chargeId ? settleCharge(context, look.chargeId, actor) : { outcome: 'not_ours' };
    }
    case 'customer':
      return settleCustomer(context, id, 'customer', actor);
    case 'entitlements':
      return settleCustomer(context, id, 'entitlements', actor);
    case 'event': {
      const object = await lookAtEvent(stripe, id);
      if (!object || object.kind === 'event') return { outcome: 'not_found' };
      return handleObject(context, object, actor);
    }
    default:
      return { outcome: 'unhandled' };
  }
}

/** What a checkout bought, and what its one-time payment brought in. */
async function settleSession(context: SettleContext, id: string, actor: string): Promise<Handled> {
  const settled = await settle(context, id, actor);
  const bought = settled.outcome === 'provisioned' || settled.outcome === 'already_provisioned';
  // What a subscription brings in, its invoices say. Should this process end before the next is done, reconcile does it.
  if (bought && settled.purchase.subscriptionId === null)
    await settleIncome(context, await lookAtIncomeOfSession(context.stripe, id));
  return answerOf(settled);
}

/** What became of a payment: of the keys it bought, and of the income it was. */
async function settleCharge(context: SettleContext, id: string, actor: string): Promise<Handled> {
  const settled = await settlePayment(context, id, actor);
  if (settled.outcome !== 'not_found')
    await settleIncome(context, await lookAtIncomeOfCharge(context.stripe, id));
  return settled;
}

/** The inbox does not keep which session an event is about: it opens a sealed key. */
async function sessionOf({ stripe }: SettleContext, event: LeasedEvent): Promise<string | null> {
  const thin = event.type.startsWith('v1.');
  const look = await (thin ? lookAtThinEvent(stripe, event.id) : lookAtEvent(stripe, event.id));
  return look?.id ?? null;
}

function answerOf(settled: { outcome: string; priceIds?: readonly string[] }): Handled {
  const { outcome, priceIds = [] } = settled;
  const prices = priceIds.join(', ') || 'The price';
  if (outcome === 'unknown_price') {
    return {
      outcome,
      failed: `${prices} stands for no plan. Add it to STRIPE_PRICE_MAP or the plan file, restart, and replay the event.`,
    };
  }
  if (outcome === 'wrong_mode_price') {
    return {
      outcome,
      failed: `${prices} is mapped for the other mode only. Map it for this mode, restart, and replay the event.`,
    };
  }
  return { outcome };
}
