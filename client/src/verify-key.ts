import { askGateway, GATEWAY_TIMEOUT_MS, gatewayUrl, IDENTITY } from './ask-gateway.ts';
import { credentialLines, endsHere, presentedKeys } from './credentials.ts';

export type VerifyKeyOptions = {
  /** The gateway's internal listener, such as `http://127.0.0.1:8013`. It has to be on this machine or a private network. */
  gateway: string;
  /** The client's IP address. Wrong keys are counted by it, and keys may be limited to some. */
  address: string;
  /** How long to wait for a decision, milliseconds; 5000. After that the answer is 503. */
  timeoutMs?: number;
  /** Told when there was no decision, and why. */
  onNoAnswer?: (error: Error) => void;
};

/** Who sent a request. Empty on a public route. */
export type Consumer = {
  /** The customer; empty for a key that the seller made. */
  id: string;
  plan: string;
  keyId: string;
};

export type Verdict =
  | {
      allowed: true;
      consumer: Consumer;
      requestId: string;
      /** The request for the handler: without the key, with who sent it in `X-Consumer-ID` and so on. */
      request: Request;
      /** To be added to the handler's answer: the limits and the request's id. */
      headers: Headers;
    }
  | {
      allowed: false;
      /** The gateway's answer to the client, to be returned as it is. */
      response: Response;
    };

/**
 * Asks the gateway whether a request may go on, in a server of the seller's own that speaks `fetch`. The same decision as
 * behind the gateway, counted in the same way. A gateway that does not answer is a 503, never a 401 or 403.
 *
 * ```ts
 * const verdict = await verifyKey(request, { gateway: 'http://127.0.0.1:8013', address });
 * if (!verdict.allowed) return verdict.response;
 * ```
 *
 * @throws TypeError for a `gateway` that is no address
 */
export async function verifyKey(request: Request, options: VerifyKeyOptions): Promise<Verdict> {
  const { address, timeoutMs = GATEWAY_TIMEOUT_MS, onNoAnswer = () => {} } = options;
  const { host, pathname, search } = new URL(request.url);
  const lines = [...request.headers].flat();
  const credentials = credentialLines(lines);
  const asked = { method: request.method, host, target: pathname + search, address, credentials };
  const answer = await askGateway(gatewayUrl(options.gateway), asked, timeoutMs, onNoAnswer);
  if (!answer.allowed) {
    const body = request.method === 'HEAD' ? null : answer.body;
    return {
      allowed: false,
      response: new Response(body, { status: answer.status, headers: answer.forTheClient }),
    };
  }
  const { identity, forTheClient } = answer;
  const keys = presentedKeys(credentials);
  const kept = new Headers([...request.headers].filter(([name, value]) => !endsHere(name, value, keys)));
  for (const name of IDENTITY) kept.set(name, identity[name]);
  return {
    allowed: true,
    consumer: {
      id: identity['x-consumer-id'],
      plan: identity['x-consumer-plan'],
      keyId: identity['x-credential-identifier'],
    },
    requestId: identity['x-request-id'],
    request: new Request(request, { headers: kept }),
    headers: new Headers(forTheClient),
  };
}
