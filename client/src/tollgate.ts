import type { Catalogue } from './catalogue.ts';
import { type Device, thisDevice } from './device.ts';
import { EntitlementKeeper } from './entitlement-keeper.ts';
import { demoEntitlements, type Entitlements, entitlementsOf, isEntitled } from './entitlements.ts';
import { TollgateError } from './error.ts';
import { absolute, configFolder, productFolder } from './folder.ts';
import { FreePlan } from './free-plan.ts';
import { type KeyParts, readKey } from './key.ts';
import { type Licence, LicenceFile, NO_LICENCE } from './licence-file.ts';
import {
  type Activation,
  type DeviceUse,
  type KnownDevice,
  Licensing,
  type TrialRequest,
  type Validation,
} from './licensing.ts';
import { Published, understood } from './published.ts';
import { keepBought, type Order, Purchases, webAddress } from './purchases.ts';
import { isRefusal } from './renewal.ts';
import { holdSeat, type Seat } from './seat.ts';
import { Server } from './server.ts';
import type { FeatureValue } from './shape.ts';
import { type PublicJwk, readKeySet, type SigningKeys } from './signing-keys.ts';

/** How long a buyer may take at the checkout, milliseconds. */
const CHECKOUT_MS = 30 * 60_000;

export type TollgateOptions = {
  /** The seller's server, such as `https://buy.example.com`. HTTPS, unless it is on this machine. */
  server: string;
  /** The product's id: what its keys begin with, `tg` in `tg_live_...`. */
  product: string;
  /**
   * The signing keys that the program trusts, as `GET /.well-known/jwks.json` lists them. With them, plan and features come
   * from a token that one of them signed, or from what the server says of the free plan while the program runs. Without them
   * it trusts what the server published last, from files: good enough against accidents, and not against who edits the
   * files on their own machine.
   */
  publicKeys?: readonly PublicJwk[];
  /** Where to keep files; the user's configuration folder, `~/.config/tollgate` or what the system has for it. */
  folder?: string;
  /** How people recognise this device in a list; the host name. */
  deviceName?: string;
  /** How long an answer of the server may take, milliseconds; 5000. */
  timeoutMs?: number;
};

/** A checkout that waits to be paid. */
export type Checkout = {
  /** Send the buyer there. */
  url: string;
  purchaseId: string;
  /** It was begun earlier, and is gone on with. */
  resumed: boolean;
};

/**
 * The licence of one product on this machine.
 *
 * ```ts
 * const tollgate = new Tollgate({ server: 'https://buy.example.com', product: 'acme', publicKeys: [...] });
 * const { entitled, detail } = await tollgate.entitlements();
 * ```
 */
export class Tollgate {
  readonly server: string;
  readonly product: string;
  /** Where this product's files are. */
  readonly folder: string;
  readonly #root: string;
  readonly #deviceName: string | null;
  readonly #keeper: EntitlementKeeper;
  readonly #http: Server;
  readonly #licensing: Licensing;
  readonly #published: Published;
  readonly #free: FreePlan;
  readonly #waitMs: number;
  readonly #file: LicenceFile;
  #device: Promise<Device> | null = null;

  /** @throws TollgateError `insecure_server` @throws TypeError for options that are none */
  constructor({ server, product, publicKeys, folder, deviceName, timeoutMs = 5000 }: TollgateOptions) {
    if (!/^[a-z][a-z0-9]{0,9}$/.test(product)) {
      throw new TypeError(`product has to be what keys begin with, such as "tg", and is "${product}"`);
    }
    this.#http = new Server(server, timeoutMs);
    this.server = this.#http.url;
    this.product = product;
    this.#root = absolute(folder ?? configFolder());
    this.folder = productFolder(this.#root, this.server, product);
    this.#deviceName = deviceName ?? null;
    this.#licensing = new Licensing(this.#http);
    this.#published = new Published(this.#http, this.folder);
    this.#free = new FreePlan(this.#published, publicKeys === undefined);
    this.#waitMs = timeoutMs;
    this.#file = new LicenceFile(this.folder);
    this.#keeper = new EntitlementKeeper({
      product,
      pinned: publicKeys === undefined ? null : pinned(publicKeys),
      file: this.#file,
      published: this.#published,
      licensing: this.#licensing,
      device: () => this.device(),
      waitMs: timeoutMs,
    });
  }

  /**
   * What this program may do now. Decided from what is on this machine; the network is waited for, for `timeoutMs` at the
   * most, only where there is nothing here that counts. When half of an entitlement's life is over, the next one is fetched
   * beside it.
   *
   * @throws TollgateError `storage_corrupt`, `storage_unavailable`; never for want of a network
   */
  async entitlements(): Promise<Entitlements> {
    const begun = performance.now();
    const { licence, standing } = await this.#keeper.now();
    if (standing !== null && isEntitled(standing.code)) return entitlementsOf(licence, standing, null);
    const free = await this.#free.known(this.#waitMs - (performance.now() - begun));
    return licence.key === null ? demoEntitlements(free) : entitlementsOf(licence, standing, free);
  }

  /**
   * The entitlement, when it is for this plan, or one of these. The free plan, where it is known to be that, needs no licence.
   *
   * @throws TollgateError `plan_required` when the plan is another, otherwise with {@link Entitlements.code}
   */
  async requirePlan(plans: string | readonly string[]): Promise<Entitlements> {
    const wanted = typeof plans === 'string' ? [plans] : plans;
    const now = await this.entitlements();
    if (now.plan !== null && wanted.includes(now.plan)) return now;
    if (!now.entitled) throw new TollgateError(now.code, now.detail, now.remedy);
    throw new TollgateError(
      'plan_required',
      `This needs the plan ${wanted.join(' or ')}, and the licence is for ${now.planName ?? now.plan}.`,
      'Change the plan: tollgate portal',
    );
  }

  /** Whether a feature is included: its value is there, and neither `false`, 0 nor empty. */
  async hasFeature(name: string): Promise<boolean> {
    return Boolean(await this.feature(name));
  }

  /** The value of a feature, such as how many projects; `undefined`: it is not included. */
  async feature(name: string): Promise<FeatureValue | undefined> {
    const { features } = await this.entitlements();
    return Object.hasOwn(features, name) ? features[name] : undefined;
  }

  /** What is included, and which plan has what is not, as the server says. Without a key: what is free. @throws TollgateError */
  async catalogue(): Promise<Catalogue> {
    const { key } = await this.#file.read();
    if (key === null) return this.#free.fetch();
    return this.#licensing.catalogue(key);
  }

  /**
   * Buys a plan: creates the purchase, says where to pay, waits, takes the key and activates this device. A checkout that
   * was begun earlier and never finished is gone on with.
   *
   * @param onCheckout sends the buyer to the checkout; not called when it is paid already
   * @param timeoutMs how long to wait for the payment, half an hour unless said
   * @param signal gives up before
   * @throws TollgateError `timed_out`, `aborted` (the purchase is kept: call it again), `payment_failed`, ...
   */
  async checkout(
    order: Order,
    onCheckout: (checkout: Checkout) => void | Promise<void>,
    { timeoutMs = CHECKOUT_MS, signal }: { timeoutMs?: number; signal?: AbortSignal } = {},
  ): Promise<Entitlements> {
    const purchases = new Purchases(this.#http, this.#root);
    const { purchase, resumed, paid } = await purchases.open(order);
    if (!paid) await onCheckout({ url: purchase.checkoutUrl, purchaseId: purchase.purchaseId, resumed });
    await purchases.wait(purchase, timeoutMs, signal);
    const { key } = await purchases.claim(purchase, (bought) => keepBought(bought, this.#http, this.#root));
    // It is written down, whatever product it is for.
    this.#ownProduct(key);
    return this.activateIfGranted();
  }

  /**
   * Puts down a key for this product, in the place of what was there. The device is not activated by it.
   *
   * @throws TollgateError `key_malformed`, `wrong_product`
   */
  async keep(key: string): Promise<void> {
    await this.#keep(key, 'given', null);
  }

  /**
   * Activates this device, or finds that it is active. Also after it was released.
   *
   * @param key one to put down first; the one that is here
   * @throws TollgateError `no_key`, `device_limit` (with `extensions.devices`), `no_licence` (the plan grants no devices), ...
   */
  async activate(key?: string): Promise<Entitlements> {
    if (key !== undefined && key !== (await this.#file.read()).key) await this.keep(key);
    const licence = await this.#licence();
    const device = await this.device();
    await this.#obtain(licence, () => this.#licensing.activate(licence.key, device));
    return this.entitlements();
  }

  /** As {@link activate}, but for a plan that grants no devices: its key is for an API, and nothing is wrong. */
  async activateIfGranted(key?: string): Promise<Entitlements> {
    try {
      return await this.activate(key);
    } catch (error) {
      if (error instanceof TollgateError && error.code === 'no_licence') return this.entitlements();
      throw error;
    }
  }

  /**
   * Fetches the next entitlement now. A server that refuses to go on ends it: see {@link Entitlements.ended}. A floating seat
   * that was lost meanwhile is taken again where there is one.
   *
   * @throws TollgateError `no_key`, `server_unreachable`, `address_not_allowed` and others that say nothing on who is entitled
   */
  async refresh(): Promise<Entitlements> {
    const licence = await this.#licence();
    if (licence.entitlement === null) return this.activate();
    try {
      await this.#keeper.renew(licence);
      this.#learnFree();
    } catch (error) {
      if (!(error instanceof TollgateError) || !isRefusal(error)) throw error;
    }
    return this.entitlements();
  }

  /** Asks the server what it thinks of the licence on this device. Changes nothing. @throws TollgateError */
  async validate(): Promise<Validation> {
    const { key } = await this.#licence();
    return this.#licensing.validate(key, (await this.device()).id);
  }

  /** Releases a device, so that another can be activated. @param deviceId this one, unless said @throws TollgateError */
  async deactivate(deviceId?: string): Promise<DeviceUse> {
    const { key } = await this.#licence();
    const device = await this.device();
    const use = await this.#licensing.deactivate(key, deviceId ?? device.id);
    if (deviceId === undefined || deviceId === device.id) await this.clear();
    return use;
  }

  /** The devices that are active. @throws TollgateError */
  async devices(): Promise<{ devices: (KnownDevice & { isThis: boolean })[]; limit: number }> {
    const { key } = await this.#licence();
    const [{ devices, limit }, { id }] = await Promise.all([this.#licensing.devices(key), this.device()]);
    return { devices: devices.map((each) => ({ ...each, isThis: each.id === id })), limit };
  }

  /**
   * Says that this device still uses its floating seat.
   *
   * @returns how often to do so, seconds; `null`: the seat is fixed
   * @throws TollgateError `device_not_active` when it was silent for too long, and the seat is somebody else's
   */
  async heartbeat(): Promise<number | null> {
    const { key } = await this.#licence();
    return this.#licensing.heartbeat(key, (await this.device()).id);
  }

  /**
   * Keeps a floating seat for as long as the program runs. A seat that was lost while the network was gone is taken again
   * where there is one.
   *
   * @param onLost called when there is none: `error.code` is `device_limit` or why the licence has ended
   * @returns `null` when the seat is fixed, and nothing has to be done
   */
  async holdSeat(onLost: (error: TollgateError) => void): Promise<Seat | null> {
    const { entitlement } = await this.#licence();
    if (entitlement?.heartbeatS == null) return null;
    return holdSeat(this, entitlement.heartbeatS, onLost);
  }

  /**
   * Begins a trial, where the plan has one. Where the server wants to know the e-mail address first it sends a code there,
   * and {@link confirmTrial} goes on.
   *
   * @throws TollgateError `no_trial`, `trial_already_used`
   */
  async trial(
    request: TrialRequest,
  ): Promise<{ status: 'begun'; endsAt: Date | null } | { status: 'verify_email'; detail: string }> {
    const begun = await this.#licensing.beginTrial(await this.device(), request);
    if (begun.status === 'begun')
      return this.#trialBegun(begun.key, request.plan, begun.endsAt, begun.activation);
    await this.#file.change((now) => ({ ...now, trialId: begun.trialId }));
    return { status: 'verify_email', detail: begun.detail };
  }

  /** Goes on with a trial. @param code from the e-mail @throws TollgateError `code_not_valid`, `link_not_valid` */
  async confirmTrial(code: string): Promise<{ status: 'begun'; endsAt: Date | null }> {
    const { trialId, plan } = await this.#file.read();
    if (trialId === null) {
      throw new TollgateError('no_trial', 'No trial was begun here.', 'Begin one: tollgate trial --plan ...');
    }
    const begun = await this.#licensing.confirmTrial(await this.device(), trialId, code);
    if (begun.status !== 'begun') {
      throw new TollgateError(
        'unexpected_answer',
        'The server asks for the code again.',
        'Begin the trial anew.',
      );
    }
    return this.#trialBegun(begun.key, plan, begun.endsAt, begun.activation);
  }

  /** The address of Stripe's portal, to change card or plan, see invoices, cancel. @throws TollgateError */
  async portal(): Promise<string> {
    const { key } = await this.#licence();
    const { body } = await this.#http.ask('POST', '/billing/portal', { bearer: key, body: {} });
    return understood(() => webAddress(body, 'url'));
  }

  /** Forgets the entitlement and what the server published. The key stays. @throws TollgateError */
  async clear(): Promise<void> {
    await this.#file.change((now) =>
      now.entitlement === null && now.ended === null && now.askAgainAt === 0
        ? now
        : { ...now, entitlement: null, ended: null, askAgainAt: 0 },
    );
    await this.#forgetPublished();
  }

  /** Forgets the key and all else. The device stays active at the server: {@link deactivate} it before. @throws TollgateError */
  async forget(): Promise<void> {
    await this.#file.erase();
    await this.#forgetPublished();
  }

  /** What is written down, the key too: handle it like one. @throws TollgateError `storage_corrupt` */
  async stored(): Promise<Licence & { path: string }> {
    return { ...(await this.#file.read()), path: this.#file.path };
  }

  /** This machine, as the server knows it. */
  device(): Promise<Device> {
    this.#device ??= thisDevice(this.#root, this.product, this.#deviceName).catch((error) => {
      // A disk that is full or not there yet need not stay so.
      this.#device = null;
      throw error;
    });
    return this.#device;
  }

  async #keep(key: string, keyFrom: Licence['keyFrom'], plan: string | null): Promise<void> {
    const { mode } = this.#ownProduct(key);
    await this.#file.replace({ ...NO_LICENCE, key, keyFrom, mode, plan });
  }

  #ownProduct(key: string): KeyParts {
    const parts = readKey(key);
    if (parts.product === this.product) return parts;
    throw new TollgateError(
      'wrong_product',
      `This key is for the product "${parts.product}", not for "${this.product}".`,
      `Set the product to "${parts.product}", or use a key of this one.`,
    );
  }

  async #licence(): Promise<Licence & { key: string }> {
    const licence = await this.#file.read();
    const { key } = licence;
    if (key !== null) return { ...licence, key };
    throw new TollgateError(
      'no_key',
      'There is no key on this machine.',
      'Buy a plan (tollgate buy --plan ...) or log in with a key (tollgate login --key -).',
    );
  }

  async #obtain(licence: Licence, ask: () => Promise<Activation>): Promise<void> {
    await this.#keeper.obtain(licence, ask);
    this.#learnFree();
  }

  async #trialBegun(
    key: string,
    plan: string | null,
    endsAt: number | null,
    activation: Activation,
  ): Promise<{ status: 'begun'; endsAt: Date | null }> {
    await this.#keep(key, 'trial', plan);
    await this.#obtain(await this.#licence(), async () => activation);
    return { status: 'begun', endsAt: endsAt === null ? null : new Date(endsAt) };
  }

  /** What is free is to be known too, for when the licence is over and the network is gone. Nothing depends on it now. */
  #learnFree(): void {
    void this.#free.known(0).catch(() => undefined);
  }

  async #forgetPublished(): Promise<void> {
    this.#free.forget();
    await this.#published.clear();
  }
}

function pinned(publicKeys: readonly PublicJwk[]): SigningKeys {
  const keys = readKeySet({ keys: publicKeys });
  if (keys.size > 0) return keys;
  throw new TypeError('publicKeys has no Ed25519 key with a kid');
}
