// The feed: the data of one screen, once a second, from server-sent events, or by polling where these do not come
// through.  Nobody looking (the tab is hidden): nothing is asked.
//
// The stream sends a screen whole, then what has changed of it: members that replace those of the same name, and further points of
// `series`; or that it is the same as before, at a later time.
//
// Invariant: `state` says what the last data are worth.  "live": no older than SILENCE.  Anything else means that they are old, and
// since when is `at`, the server's time of the last good poll.  Who listens is told of each change of state.

const SILENCE = 6000;			// ms without data after which it is not live any more
const POLL = 2000;				// ms between two polls, without events
const TRY_EVENTS = 30000;		// ms until events are tried again
const GIVE_UP = 3;				// failures of the event stream in a row before polling begins
const POINTS = 1200;			// points of a series that are kept

export class Feed
{
	// `listener`: { data(data, at), state(state, message) }.
	constructor(listener)
	{
		this.listener = listener;
		this.path = null;
		this.whole = null;		// the last data, whole
		this.at = null;
		this.state = 'waiting';
		this.message = '';
		this.failures = 0;
		this.heard = Date.now();
		this.source = null;
		this.timer = null;
		this.number = 0;

		setInterval(() => this.listen(), 1000);
		document.addEventListener('visibilitychange', () => this.seen());
		addEventListener('pagehide', () => this.close());
		addEventListener('pageshow', event => event.persisted && this.open());
	}

	// Show this path from now on.
	watch(path)
	{
		this.path = path;
		this.whole = null;
		this.open();
	}

	// Ask at once.
	refresh()
	{
		return this.ask();
	}

	seen()
	{
		if (document.hidden)
		{
			this.close();
			this.become('away', 'Nothing is asked while the page is hidden.');
		}
		else
			this.open();
	}

	close()
	{
		if (this.source)
			this.source.close();
		clearTimeout(this.timer);
		this.source = this.timer = null;
		this.number++;
	}

	open()
	{
		this.close();
		if (document.hidden)
			return;
		this.heard = Date.now();
		if (typeof EventSource === 'undefined')
			this.poll();
		else
			this.stream();
	}

	stream()
	{
		const source = new EventSource('/events?path=' + encodeURIComponent(this.path));
		const number = this.number;
		const on = (name, what) => source.addEventListener(name, event =>
		{
			if (number === this.number)
				what(event.data ? JSON.parse(event.data) : {});
		});

		this.source = source;
		on('data', message => this.take(message.full === false ? this.joined(message.data) : message.data, message.at));
		on('same', message => this.whole && this.take({ ...this.whole, now: message.at }, message.at));
		on('error', message => message.error && this.become('refused', message.error.message));
		on('lost', message =>
		{
			this.heard = Date.now();
			this.at = message.since || this.at;
			this.become('lost', message.message);
		});
		on('back', () => { this.heard = Date.now(); });
		// The session has ended, or the program has: who asks again is told, and in the second case what is shown stays.
		on('logout', () =>
		{
			this.close();
			this.poll(Date.now());
		});
		source.onerror = event =>
		{
			// An event of the server's that is called so comes here, too.
			if (number !== this.number || event.data !== undefined)
				return;
			this.failures++;
			// A refusal closes it for good; a cut is mended by the browser, a few times.
			if (source.readyState === EventSource.CLOSED || this.failures >= GIVE_UP)
			{
				this.close();
				this.poll(Date.now() + TRY_EVENTS);
			}
		};
	}

	// What was there, with what has changed of it.
	joined(change)
	{
		const before = this.whole || {};
		const data = { ...before, ...change };

		if (change.series)
			data.series = [...before.series || [], ...change.series].slice(-POINTS);
		return data;
	}

	// Poll until that time, then try events again.
	async poll(until)
	{
		const number = this.number;

		await this.ask();
		if (number !== this.number)
			return;
		this.timer = setTimeout(() => until && Date.now() > until ? this.open() : this.poll(until), POLL);
	}

	// One question, by fetch.
	async ask()
	{
		const number = this.number;
		let response, body;

		try
		{
			response = await fetch('/api' + this.path, { headers: { Accept: 'application/json' }, cache: 'no-store' });
			body = await response.json().catch(() => null);
		}
		catch (error)
		{
			if (number === this.number)
				this.become('cut', '');
			return;
		}
		if (number !== this.number)
			return;
		if (response.status === 401)
			this.leave();
		else if (response.ok && body)
			this.take(body, body.now || new Date().toISOString());
		else
		{
			this.heard = Date.now();
			this.become(response.status === 503 ? 'lost' : 'refused',
				body && body.error ? body.error.message : `The console answered ${response.status}.`);
		}
	}

	take(data, at)
	{
		this.failures = 0;
		this.heard = Date.now();
		this.at = at;
		this.whole = data;
		this.become('live', '');
		this.listener.data(data, at);
	}

	// Look, each second, whether anything was heard.
	listen()
	{
		if (!document.hidden && this.state === 'live' && Date.now() - this.heard > SILENCE)
			this.become('cut', '');
	}

	leave()
	{
		this.close();
		location.assign('/login?next=' + encodeURIComponent(this.path));
	}

	become(state, message)
	{
		if (state === this.state && message === this.message)
			return;
		this.state = state;
		this.message = message || '';
		this.listener.state(state, this.message);
	}
}
