import { type Catalogue, readCatalogue } from './catalogue.ts';
import type { Device } from './device.ts';
import { TollgateError } from './error.ts';
import { understood } from './published.ts';
import type { Server } from './server.ts';
import {
  count,
  countOrNull,
  type Features,
  features,
  flag,
  list,
  MODES,
  type Mode,
  oneOf,
  type Shape,
  shape,
  text,
  textOrNull,
  timeOrNull,
} from './shape.ts';

/** A device that the server knows. Times are milliseconds since the epoch. */
export type KnownDevice = {
  id: string;
  name: string | null;
  activatedAt: number | null;
  lastSeenAt: number | null;
};

/** A licence as the server says it is. */
export type LicenceSaid = {
  keyId: string;
  plan: string;
  planName: string;
  mode: Mode;
  state: string;
  features: Features;
  /** Until when it is paid for, milliseconds since the epoch; `null`: no end. */
  until: number | null;
};

export type Activation = {
  token: string;
  /** After how many seconds to ask for the next one. */
  refreshAfterS: number;
  heartbeatS: number | null;
  licence: LicenceSaid;
  /** The server's clock, milliseconds since the epoch; `null`: not told. */
  serverTime: number | null;
};

export type DeviceUse = { used: number; limit: number };

/** What the server says of a licence right now. */
export type Validation = {
  valid: boolean;
  /** `valid`, or why it is not. */
  code: string;
  detail: string;
  remedy: string | null;
  licence: LicenceSaid | null;
  device: KnownDevice | null;
  devices: DeviceUse | null;
};

export type TrialRequest = { plan: string; email?: string };

export type TrialBegun =
  | { status: 'begun'; key: string; endsAt: number | null; activation: Activation }
  | { status: 'verify_email'; trialId: string; detail: string };

/**
 * The licence server's questions and answers (`POST /licences/...`), one method each.
 * All throw the TollgateErrors of {@link Server.ask}.
 */
export class Licensing {
  readonly #server: Server;

  constructor(server: Server) {
    this.#server = server;
  }

  async activate(key: string, device: Device): Promise<Activation> {
    const { body, serverTime } = await this.#server
      .ask('POST', '/licences/activate', { body: { key, device } })
      .catch((error) => {
        throw error instanceof TollgateError && error.code === 'not_found' ? noLicences() : error;
      });
    return understood(() => readActivation(body, serverTime));
  }

  async refresh(key: string, deviceId: string): Promise<Activation> {
    const { body, serverTime } = await this.#server.ask('POST', '/licences/refresh', {
      body: { key, device_id: deviceId },
    });
    return understood(() => readActivation(body, serverTime));
  }

  async validate(key: string, deviceId: string): Promise<Validation> {
    const { body } = await this.#server.ask('POST', '/licences/validate', {
      body: { key, device_id: deviceId },
    });
    return understood(() => ({
      valid: flag(body, 'valid'),
      code: text(body, 'code'),
      detail: text(body, 'detail'),
      remedy: textOrNull(body, 'remedy'),
      licence: absent(body.licence) ? null : readLicence(shape(body.licence, 'licence')),
      device: absent(body.device) ? null : readDevice(shape(body.device, 'device')),
      devices: absent(body.devices) ? null : readUse(shape(body.devices, 'devices')),
    }));
  }

  async deactivate(key: string, deviceId: string): Promise<DeviceUse> {
    const { body } = await this.#server.ask('POST', '/licences/deactivate', {
      body: { key, device_id: deviceId },
    });
    return understood(() => readUse(shape(body.devices, 'devices')));
  }

  /** Returns how often this has to be done, seconds. */
  async heartbeat(key: string, deviceId: string): Promise<number | null> {
    const { body } = await this.#server.ask('POST', '/licences/heartbeat', {
      body: { key, device_id: deviceId },
    });
    return understood(() => countOrNull(body, 'heartbeat_s'));
  }

  async devices(key: string): Promise<{ devices: KnownDevice[]; limit: number }> {
    const { body } = await this.#server.ask('GET', '/licences/devices', { bearer: key });
    return understood(() => ({ devices: readDevices(body), limit: count(body, 'limit') }));
  }

  async catalogue(key: string): Promise<Catalogue> {
    const { body } = await this.#server.ask('GET', '/licences/features', { bearer: key });
    return understood(() => readCatalogue(body));
  }

  async beginTrial(device: Device, { plan, email }: TrialRequest): Promise<TrialBegun> {
    const { body, serverTime } = await this.#server.ask('POST', '/licences/trial', {
      body: { plan, device, ...(email === undefined ? {} : { email }) },
    });
    return understood(() => readTrial(body, serverTime));
  }

  async confirmTrial(device: Device, trialId: string, code: string): Promise<TrialBegun> {
    const { body, serverTime } = await this.#server.ask('POST', '/licences/trial', {
      body: { trial_id: trialId, code, device },
    });
    return understood(() => readTrial(body, serverTime));
  }
}

/** The devices that a list of the server's, or its refusal of one more (409 `device_limit`), names. @throws ShapeError */
export function readDevices(from: Shape): KnownDevice[] {
  return list(from, 'devices').map((each) => readDevice(shape(each, 'devices')));
}

/** A seller whose plans all are for an API serves no licences at all. */
function noLicences(): TollgateError {
  return new TollgateError('no_licence', 'This seller has no licences for devices.', null, { status: 403 });
}

function readActivation(body: Shape, serverTime: number | null): Activation {
  return {
    token: text(body, 'token'),
    refreshAfterS: count(body, 'refresh_after_s'),
    heartbeatS: countOrNull(body, 'heartbeat_s'),
    licence: readLicence(shape(body.licence, 'licence')),
    serverTime,
  };
}

function readLicence(licence: Shape): LicenceSaid {
  return {
    keyId: text(licence, 'key_id'),
    plan: text(licence, 'plan'),
    planName: text(licence, 'plan_name'),
    mode: oneOf(licence, 'mode', MODES),
    state: text(licence, 'state'),
    features: features(licence, 'features'),
    until: timeOrNull(licence, 'until'),
  };
}

function readDevice(device: Shape): KnownDevice {
  return {
    id: text(device, 'id'),
    name: textOrNull(device, 'name'),
    activatedAt: timeOrNull(device, 'activated_at'),
    lastSeenAt: timeOrNull(device, 'last_seen_at'),
  };
}

function readUse(devices: Shape): DeviceUse {
  return { used: count(devices, 'used'), limit: count(devices, 'limit') };
}

function readTrial(body: Shape, serverTime: number | null): TrialBegun {
  if (body.status === 'verify_email') {
    return { status: 'verify_email', trialId: text(body, 'trial_id'), detail: text(body, 'detail') };
  }
  return {
    status: 'begun',
    key: text(body, 'key'),
    endsAt: timeOrNull(body, 'ends_at'),
    activation: readActivation(body, serverTime),
  };
}

function absent(value: unknown): boolean {
  return value === null || value === undefined;
}
