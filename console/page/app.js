// The page: which screen it is, its data, and what is said when these are old.
//
// The server has put the screen into <main> as plain HTML, readable without any of this.  From the first data on,
// the screen is drawn from them, and again with each poll.  While the data are not live the page says so, since when, and
// greys every number that is meant to be of this moment (class "now"); no clock of the page runs on by itself.

import { say, whisper } from './act.js';
import * as definition from './definition.js';
import * as definitions from './definitions.js';
import { el, fragment, morph } from './dom.js';
import { Feed } from './feed.js';
import { time, ZONE } from './format.js';
import * as health from './health.js';
import * as keys from './keys.js';
import { batches, errors, events } from './lists.js';
import * as run from './run.js';
import * as runs from './runs.js';

const SCREENS = { runs, run, batches, errors, events, definitions, definition, health };

const main = document.getElementById('main');
const screen = SCREENS[main && main.dataset.screen];
let data = null;
let feed = null;

// What a screen may ask of the page.
const context = {
	path: main ? main.dataset.path : '',
	memory: {},					// what a screen wants to remember while it is shown
	timers: {},

	draw()
	{
		if (!data)
			return;
		morph(main, screen.view(data, context));
		main.classList.add('drawn');
		if (screen.after)
			screen.after(data, main);
		title();
	},

	// Another query of the same screen, without leaving it.
	go(path)
	{
		if (path === context.path)
			return;
		context.path = path;
		history.replaceState(null, '', path);
		feed.watch(path);
	},

	// Call `what` when nothing of that name has been asked for `ms`.
	later(name, ms, what)
	{
		clearTimeout(context.timers[name]);
		context.timers[name] = setTimeout(what, ms);
	},

	async refresh()
	{
		await feed.refresh();
		say(feed.state === 'live' ? 'Asked again.' : 'There is no answer.');
	},

	say,
};

// The title of a tab is read when nobody looks at the page: it has numbers of this moment, too.
function title()
{
	if (data)
		document.title = (document.body.classList.contains('stale') ? '(old) ' : '') + screen.title(data, context) + ' · backfill';
}

// --- Whether the data are live ---

const WORDS = {
	lost: 'No connection to the database', cut: 'No connection to the console', refused: 'The console refuses', away: 'Not looking',
};

function showState(state, message)
{
	const banner = document.getElementById('banner');
	const live = state === 'live' || state === 'waiting';

	document.body.classList.toggle('stale', !live);
	title();
	stamp();
	morph(banner, live || state === 'away' ? fragment() : fragment(el('div', { class: 'banner' },
		el('strong', null, WORDS[state] + '.'), ' ',
		data ? ['What is shown is from ', time(feed.at), ' and may be old.'] : 'Nothing newer is to be had.',
		message ? el('span', { class: 'quiet' }, ' ', message) : null)));
	if (live && banner.dataset.was && banner.dataset.was !== 'away' && banner.dataset.was !== 'live')
		say('The connection is back.');
	banner.dataset.was = state === 'waiting' ? '' : state;
}

// When the data are from, in the head of the page.
function stamp()
{
	const place = document.getElementById('stamp');

	if (feed && feed.at)
		morph(place, fragment(el('span', { class: 'dot', 'aria-hidden': 'true' }),
			el('span', { class: 'hidden' }, feed.state === 'live' ? 'Live, ' : 'Old, from '), time(feed.at)));
}

function take(fresh)
{
	const before = data;

	data = fresh;
	context.draw();
	stamp();
	for (const { text, quiet } of screen.news ? screen.news(fresh, before) : [])
		(quiet ? whisper : say)(text);
}

// --- Links that only change the query ---

function followHere(event)
{
	const link = event.target.closest('a[data-here]');

	if (!link || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey)
		return;
	event.preventDefault();
	context.go(link.pathname + link.search);
}

// --- Begin ---

keys.storedTheme();
document.body.append(el('div', { id: 'say', role: 'status', 'aria-live': 'polite' }), el('div', { id: 'whisper', class: 'hidden', 'aria-live': 'polite' }));
if (screen)
{
	const who = document.querySelector('header .who');

	main.before(el('div', { id: 'banner', role: 'alert' }));
	who.prepend(el('span', { id: 'stamp', title: 'When the data are from; zone: ' + ZONE }), ...keys.buttons(context));
	main.addEventListener('click', followHere);
	keys.listen(context);
	matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => context.draw());
	feed = new Feed({ data: take, state: showState });
	feed.watch(context.path);
}
