import type { ActiveEntitlement } from './active-entitlements.ts';
import type { CheckoutSession } from './checkout-sessions.ts';
import type { Customer } from './customers.ts';
import type { Dispute } from './disputes.ts';
import type { Feature, ProductFeature } from './entitlement-features.ts';
import { noSuch } from './errors.ts';
import type { StripeEvent } from './events.ts';
import type { InvoiceItem } from './invoice-items.ts';
import type { Invoice, InvoicePayment } from './invoices.ts';
import type { PaymentLink } from './payment-links.ts';
import type { PaymentMethod } from './payment-methods.ts';
import type { Charge, PaymentIntent } from './payments.ts';
import type { PortalConfiguration } from './portal-configurations.ts';
import type { PortalSession } from './portal-sessions.ts';
import type { Price } from './prices.ts';
import type { Product } from './products.ts';
import type { Refund } from './refunds.ts';
import type { Subscription } from './subscriptions.ts';
import type { WebhookEndpoint } from './webhook-endpoints.ts';

/** Objects of one kind, in the order they were created. */
export class Collection<T extends { id: string }> {
  readonly #noun: string;
  readonly #param: string;
  readonly #byId = new Map<string, T>();

  /** `noun` as Stripe's error names it; `param` as its error for an id in the path names the parameter. */
  constructor(noun: string, param = 'id') {
    this.#noun = noun;
    this.#param = param;
  }

  add(object: T): T {
    this.#byId.set(object.id, object);
    return object;
  }

  remove(id: string): void {
    this.#byId.delete(id);
  }

  find(id: string | null | undefined): T | undefined {
    return id ? this.#byId.get(id) : undefined;
  }

  /** The object of an id in the path. @throws StripeError 404 `resource_missing`. */
  get(id: string): T {
    const object = this.#byId.get(id);
    if (!object) throw noSuch(this.#noun, id, this.#param, 404);
    return object;
  }

  /** The object of an id given as parameter `param`. @throws StripeError 400 `resource_missing`. */
  named(id: string, param: string): T {
    const object = this.#byId.get(id);
    if (!object) throw noSuch(this.#noun, id, param, 400);
    return object;
  }

  /** Newest first, as Stripe lists. */
  all(): T[] {
    return [...this.#byId.values()].reverse();
  }

  clear(): void {
    this.#byId.clear();
  }
}

/** Everything the account holds. */
export class Store {
  readonly products = new Collection<Product>('product');
  readonly prices = new Collection<Price>('price', 'price');
  readonly customers = new Collection<Customer>('customer');
  readonly paymentMethods = new Collection<PaymentMethod>('PaymentMethod', 'payment_method');
  readonly sessions = new Collection<CheckoutSession>('checkout.session', 'session');
  readonly paymentLinks = new Collection<PaymentLink>('payment_link', 'payment_link');
  readonly subscriptions = new Collection<Subscription>('subscription');
  readonly invoices = new Collection<Invoice>('invoice', 'invoice');
  readonly invoicePayments = new Collection<InvoicePayment>('invoice_payment', 'invoice_payment');
  readonly invoiceItems = new Collection<InvoiceItem>('invoiceitem', 'invoiceitem');
  readonly paymentIntents = new Collection<PaymentIntent>('payment_intent', 'intent');
  readonly charges = new Collection<Charge>('charge');
  readonly refunds = new Collection<Refund>('refund');
  readonly disputes = new Collection<Dispute>('dispute', 'dispute');
  readonly features = new Collection<Feature>('entitlements.feature');
  readonly productFeatures = new Collection<ProductFeature>('product_feature');
  readonly entitlements = new Collection<ActiveEntitlement>('entitlements.active_entitlement');
  readonly events = new Collection<StripeEvent>('event');
  readonly webhookEndpoints = new Collection<WebhookEndpoint>('webhook endpoint', 'webhook_endpoint');
  /** Endpoints that get thin events. */
  readonly thinEndpoints = new Collection<WebhookEndpoint>('event destination', 'id');
  readonly portalConfigurations = new Collection<PortalConfiguration>('configuration', 'configuration');
  readonly portalSessions = new Collection<PortalSession>('billing_portal.session', 'session');

  clear(): void {
    for (const collection of Object.values(this)) (collection as Collection<{ id: string }>).clear();
  }
}
