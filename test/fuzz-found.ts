import type { FuzzCase } from './fuzz-rig.ts';

/** A case that the fuzzer, or thinking about one of its finds, showed to depend on which way a connection goes. */
export type FoundCase = {
  name: string;
  fuzzCase: FuzzCase;
  /** The statuses that the client gets, before that of the known request which follows where the connection goes on. */
  statuses: number[];
  /** What reaches the upstream, as the beginnings of requests, in order of the alphabet. */
  upstream: string[];
};

const plain = (body: string) => `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`;

/** The cases with a good key in them. */
export function foundCases(key: string): FoundCase[] {
  const lines = `Host: h\r\nX-API-Key: ${key}\r\n`;
  return [
    {
      // Its answer says that the connection closes. What came behind it in the same packet was forwarded nevertheless,
      // or not: it depended on whether `node:http` got the packet from the system or from the lane.
      name: 'a refused request that expects to be told to continue with a body it does not have, and one behind it',
      fuzzCase: {
        messages: [
          [
            `GET /first HTTP/1.1\r\n${lines}Authorization: Bearer wrong\r\nExpect: 100-continue\r\n\r\n` +
              `PUT /second HTTP/1.1\r\n${lines}Content-Length: 20\r\n\r\n${'\0\xff'.repeat(10)}`,
          ],
        ],
        answers: [{ pieces: [plain('ok')], after: 'keep' }],
        leave: 'no',
      },
      statuses: [400],
      upstream: [],
    },
    {
      name: 'a forwarded request that expects to be told to continue with a body it does not have, and one behind it',
      fuzzCase: {
        messages: [
          [
            `GET /first HTTP/1.1\r\n${lines}Expect: 100-continue\r\n\r\n` +
              `PUT /second HTTP/1.1\r\n${lines}Content-Length: 4\r\n\r\nbody`,
          ],
        ],
        answers: [{ pieces: [plain('ok')], after: 'keep' }],
        leave: 'no',
      },
      statuses: [200],
      upstream: ['GET /first HTTP/1.1\r\n'],
    },
    {
      // undici puts away a connection that is not kept by an error on it. While that was told, the answer that ended on
      // another connection was taken for one that had broken off, and the client's connection ended in the middle.
      name: 'two requests at once, each with a long answer after which the upstream keeps no connection',
      fuzzCase: {
        messages: [
          [
            `POST /%2e%2e/x HTTP/1.1\r\n${lines}Content-Length: 6\r\n\r\n{"a":1` +
              `GET /v1/items?limit=10&after=x%20y HTTP/1.1\r\n${lines}\r\n`,
          ],
          [`GET /unusual HTTP/1.1\r\n${lines}!#$%&'*+-.^_\`|~1: y\r\n\r\n`],
        ],
        answers: [
          {
            pieces: [
              `HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 70000\r\n\r\n${'0\r\n\r\n'.repeat(14_000)}`,
            ],
            after: 'keep',
          },
        ],
        leave: 'no',
      },
      statuses: [503, 503, 503],
      upstream: [
        'GET /unusual HTTP/1.1\r\n',
        'GET /v1/items?limit=10&after=x%20y HTTP/1.1\r\n',
        'POST /%2e%2e/x HTTP/1.1\r\n',
      ],
    },
    {
      // Whether its head or its body was found faulty depended on whether the request before it was answered by then.
      name: 'a refused request with a body, and right behind it one with a transfer coding that is not understood',
      fuzzCase: {
        messages: [
          [
            `PATCH /%2e%2e/x HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer wrong\r\nContent-Length: 6\r\n\r\n{"a":1` +
              `DELETE /v1/items HTTP/1.1\r\n${lines}Transfer-Encoding: identity\r\nConnection: close\r\n\r\n`,
          ],
        ],
        answers: [{ pieces: [plain('ok')], after: 'keep' }],
        leave: 'no',
      },
      statuses: [429, 501],
      upstream: [],
    },
    {
      // Whether its connection went on depended on whether its body had been read by the time it was refused.
      name: 'a refused request, and right behind it one with a body in chunks that is refused for its head',
      fuzzCase: {
        messages: [
          [
            `POST /%2e%2e/x HTTP/1.1\r\nHost: h\r\nX-API-Key: wrong\r\nContent-Length: 4\r\n\r\nbody` +
              `POST /second HTTP/1.1\r\n${lines}Upgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n`,
          ],
        ],
        answers: [{ pieces: [plain('ok')], after: 'keep' }],
        leave: 'no',
      },
      statuses: [429, 501, 200],
      upstream: [],
    },
    {
      // Whether its target or a header was found too long depended on what `node:http` had read at once.
      name: 'a head that comes in two pieces, of which the second looks like a request with too long a target',
      fuzzCase: {
        messages: [
          [`GET /first HTTP/1.1\r\n${lines}X-Custom: `],
          [`GET /${'x'.repeat(20_000)} HTTP/1.1\r\n${lines}\r\n`],
        ],
        answers: [{ pieces: [plain('ok')], after: 'keep' }],
        leave: 'no',
      },
      statuses: [431],
      upstream: [],
    },
    {
      // Whether the gateway or `node:http` said that the connection closes depended on whether the body had been read by then.
      name: 'two refused requests, the second with a body that did not wait to be asked for',
      fuzzCase: {
        messages: [
          [
            'PUT /first HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody' +
              `POST /second HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 20000\r\n\r\n${'x'.repeat(20_000)}`,
          ],
        ],
        answers: [{ pieces: [plain('ok')], after: 'keep' }],
        leave: 'no',
      },
      statuses: [401, 401],
      upstream: [],
    },
  ];
}
