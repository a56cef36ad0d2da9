/** The words of docs/performance.md. No measured figure stands here: those come from bench/results. */

export const BEFORE = `# Performance

What a request through Tollgate costs, beside what people would otherwise put in front of an API. This page is made from
[bench/results](../bench/results) by \`npm run bench\`; do not edit it. Each figure is the median of several runs, each
with fresh processes, with the smallest and the largest beside it. A ratio is that of one round, in which those that are
compared run soon after each other as a rule; it too is the median of all rounds, with the smallest and the largest.

**Ratios carry over to other machines, absolute figures do not.** Requests a second are those of *one core*: each
contender runs on a core of its own, load generator and API share another. A machine with more cores gives more to
everyone.`;

/** What each benchmark is, and what its figures say and do not say; in the order of the page. */
export const SECTIONS: Readonly<Record<string, { title: string; before: string; after: string }>> = {
  gateway: {
    title: 'Full load',
    before: `Everyone does the same work: each request carries one of many keys; the key is checked, the request counted
against the limit of that key, the key taken off, the key's id passed to the API, and its small JSON answer sent back. The
limits are so high that nothing is refused. Before anything is measured, each contender has to show that it does all of
this: no key, a made-up key and a key with one letter changed are 401, a low limit ends in 429 at exactly that request
for that key and no other, and the API sees no key. Any answer but 200 under load fails the whole run.`,
    after: `How to read it:

- nginx and HAProxy hold the keys in plain text in a static file: a new key is a reload. nginx with Lua is what API
  gateways built on it do, with neither their plugin chain nor their database. Tollgate holds no plaintext, and besides
  the work above it follows plans, subscriptions, quotas and revocations, and writes usage for billing. The first three
  are therefore what is *possible*, not a replacement.
- Where nginx caches the verifier's answers, a revoked key works until its answer expires.
- The verifier behind \`auth_request\` is the least one can be: a table of keys and a counter.
- The two limits of Node do no work at all. They show how much of the cost is Node's own. Tollgate's node:http path can be
  faster than the second: most requests go to the API over connections of its own instead of undici's.
- CPU is user and system time of all the contender's processes, divided by requests. It is the steadier figure of the two.
- p50 and p99 are those under full load, where each request waits for others. How much latency a gateway adds is below.
- A key's first use costs an Argon2 run. All keys here were used once before; the first uses have a measurement of
  their own.`,
  },
  latency: {
    title: 'Latency at half load',
    before: `Nobody runs a server at its limit. Here each contender gets half of the requests it can take at the most, at a
steady rate and whatever the answers take, and every request's time counts from when it was to be sent. The same rate then
goes straight to the API. The difference of the two is what the contender adds.`,
    after: `Each one's rate is its own, so a slower contender is measured at fewer requests a second. Load generator
and API share a core, which is why the API alone has a tail. And whatever else the machine does stops whoever runs: here
the kernel looks through memory twice a second, for two milliseconds each time, and all that arrives meanwhile waits. That
is in the p99 of every contender. What Tollgate adds to it is the writing of its ledger, which nobody else keeps.`,
  },
  connections: {
    title: 'Many connections',
    before: 'The work of the first table, over many connections at once.',
    after: '',
  },
  bodies: {
    title: 'Large bodies',
    before: `Throughput with large bodies: answers from the API, then requests to it. All are streamed, by nginx too; by
its defaults it would write some of them to disk on their way. Only the fast lane keeps a request of up to 1 MiB
until it is whole.`,
    after:
      'nginx moves bytes in C without showing them to anybody; in Node each chunk passes through JavaScript.',
  },
  memory: {
    title: 'Memory',
    before: `Resident memory of the gateway under full load for a long time, read at regular intervals: the median, the
smallest and the largest.`,
    after: `Resident memory is what the system gave to the process, including what V8 keeps for later. It breathes with
garbage collection; a leak would show as a second half above the first.`,
  },
  'slow-reader': {
    title: 'A slow reader',
    before: `A gibibyte from an API that would send it at once, to one client that takes a mebibyte a second: resident memory
above what the gateway had before, read every second.`,
    after: '',
  },
  'first-uses': {
    title: 'First uses',
    before: `After a start, the first use of each key costs an Argon2 run. This is every key used for the first time at
once, right after a start, with both cores for gateway, API and load generator together.`,
    after: `Most of it is Argon2id at its default cost. CPU is that of the gateway with its start, divided by keys.`,
  },
  'known-keys': {
    title: 'Many keys',
    before: `What a request costs a gateway that knows very many keys against one that knows few. Each key is used in turn, in
no order; where it is said how many are in use, those are from among all that are known.`,
    after: `All of very many in turn is the worst case there is: nothing of a key is in the processor's caches when its turn comes, and each
request begins a row of usage of its own, while of few keys hundreds of requests share one. What the ledger takes for it is part of the
CPU. Decisions alone show what remembering costs. As measured on a machine that had other work.`,
  },
  'wrong-keys': {
    title: 'A flood of wrong keys',
    before: `What a flood of wrong keys (never issued, with a bad checksum, or the id of a good key with a wrong secret) takes
from callers with good ones: those work at full load, and meanwhile somebody sends wrong keys over other connections. Each
share is of what the same callers get without the flood.`,
    after: `An address that has sent too many wrong keys is answered 429, and beyond a few hundred of those a second
each waits a second for its answer: that is why fewer are answered than the flood would send. The flood is made on the core
of the load generator and the API, so some of what is lost here is lost there.`,
  },
  redis: {
    title: 'Limits in Redis',
    before: `What it costs to count limits in a Redis that several gateways share, against counting in memory: the work of
the first table, with two gateways' settings, in one run. Redis shares a core with load and API; its processor time is part
of what a request costs.`,
    after: '',
  },
  engines: {
    title: 'SQLite, PostgreSQL and Redis',
    before: `A keystore of a million keys beside one of a thousand, in SQLite and in PostgreSQL, and what the engines carry.
Keys are hashed at the least cost there is, so that a first use shows what the keystore does of it.`,
    after: `A first use waits for its note in the keystore, which is gathered for 25 ms with those of others. A thousand
keys, spread over all there are, are used for it.`,
  },
  accuracy: {
    title: 'How exact shared limits are',
    before: `Gateways that share a Redis, one key for each limit, each under a steady load of so many times its limit, all at
once, requests going to one gateway after the other. Of each window, how many requests were admitted.`,
    after: `A window begins with the first request after the end of the one before, so a load of exactly the limit has a
few requests too many for some windows.`,
  },
  revocation: {
    title: 'From revocation to refusal',
    before: `A key is revoked by another process, while each of three gateways is asked again and again. The time from the
commit to the first refusal, of each gateway and key.`,
    after: '',
  },
  faults: {
    title: 'When something fails',
    before: `Three gateways on one PostgreSQL and one Redis, a request every 4 ms with a good key, while one part fails for
four seconds and comes back.`,
    after: `Requests to a gateway that was killed are not answered: there is no load balancer here that would send them
elsewhere.`,
  },
  purchases: {
    title: 'Purchases',
    before: 'From a paid checkout to a key that works, everything in one process as `npm start` runs it.',
    after: '',
  },
  inbox: {
    title: "Stripe's events",
    before: `Webhooks on their way through the event inbox, and an inbox that fills up while Stripe is away and billing is
killed.`,
    after: '',
  },
  console: {
    title: 'The console',
    before: "Pages of the operator's console as whole answers, on SQLite, one after the other.",
    after: '',
  },
};

export const AFTER = `## What is not measured

- TLS: everybody here speaks plain HTTP. A gateway on the internet has TLS in front of it or in it.
- A network: everything is on one machine, so there is no latency to hide behind and no packet lost.
- Several machines: everything is on one, so nothing waits for a cable.
- Other people's configurations. Each contender's is in [bench/contenders](../bench/contenders), and it is meant to be a
  good one: whoever knows a better one, please send it.

## Run it yourself

\`\`\`sh
apt-get install -y nginx libnginx-mod-http-lua haproxy wrk   # who is missing is left out, and named
npm ci
npm run bench -- gateway              # the first table; some twenty minutes
npm run bench -- gateway --quick      # two minutes, printed only: too short to be quoted
npm run bench                         # everything
\`\`\`

Contenders from npm are installed in \`bench/contenders\` by the first run. On a machine that does other things too, the
spread tells: a wide one means that the figures are not worth much.`;
