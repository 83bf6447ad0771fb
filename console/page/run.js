// The screen of one run: the picture of its life, how far it is and how fast, why it is not faster, and the buttons.

import { act, ask, readOnly, sayAnswer } from './act.js';
import * as charts from './charts.js';
import { el, facts, fragment, table } from './dom.js';
import { between, bytes, count, milliseconds, percent, plural, rate, seconds, span, time, value } from './format.js';
import { bar, etaText, isActive, isHeld, rateText, reason, runNav, statusChip } from './parts.js';
import { settingsInForce } from './settings.js';

const CHARTS = ['rate', 'batch', 'wal'];

export function title(data)
{
	const { run } = data;

	return `${isActive(run) && run.progress !== null ? percent(run.progress) + ' ' : ''}#${run.id} ${run.name} ${run.status}`;
}

// --- The buttons ---

// `noted`: why it is done can be said.
const BUTTONS = [
	{ action: 'pause', label: 'Pause', noted: true },
	{ action: 'resume', label: 'Resume', primary: true, noted: true },
	{ action: 'retry', label: 'Retry', primary: true, noted: true },
	{ action: 'verify', label: 'Verify' },
	{ action: 'clone', label: 'Clone as a new run' },
	{ action: 'stop', label: 'Stop', danger: true, noted: true },
	{ action: 'stop_now', label: 'Stop now', danger: true, noted: true },
];

function press(button, run, may)
{
	return ask({
		title: `${button.label}: run ${run.id} of ${run.name}?`,
		body: el('div', { class: 'form' }, el('p', { class: 'says' }, may),
			button.noted ? el('div', { class: 'field' }, el('label', { for: 'why' }, 'Why'),
				el('input', { id: 'why', name: 'note', maxlength: '500', autocomplete: 'off', 'aria-describedby': 'why-help' }),
				el('p', { class: 'help', id: 'why-help' }, 'If you like: it stands in the events, with your name.')) : null),
		confirm: button.label, danger: button.danger,
		run: async form =>
		{
			const answer = await act(button.action, { id: run.id, note: form.get('note') });

			if (button.action === 'clone')
				location.assign('/runs/' + answer.result);
			else
				sayAnswer(answer, `${button.label}: asked.`);
		},
	});
}

function buttons(run, may)
{
	const legal = BUTTONS.filter(button => may[button.action]);

	if (readOnly())
		return el('p', { class: 'quiet' }, 'Read only.');
	return legal.length === 0 ? null : el('div', { class: 'row actions', role: 'group', 'aria-label': 'What can be done with the run' },
		legal.map(button => el('button', {
			'data-key': button.action, 'data-action': button.action, class: button.danger ? 'quiet-danger' : button.primary ? 'primary' : null,
			title: may[button.action], onclick: () => press(button, run, may[button.action]),
		}, button.label + '…')));
}

// --- The picture of its life ---

// When the run took each of the statuses, as far as its events tell; its own columns tell the rest.
function life(run, data)
{
	const steps = data.life || [];
	const first = status => (steps.find(step => step.status === status) || {}).at;
	const ended = !isActive(run);
	const order = ['pending', 'enqueued', 'running', 'ended'];
	const at = ended ? 'ended' : run.status === 'paused' ? (run.started_at ? 'running' : first('enqueued') ? 'enqueued' : 'pending') : run.status;
	const times = {
		pending: run.created_at, enqueued: first('enqueued'), running: run.started_at, ended: ended ? run.finished_at : null,
	};
	// A run that is created need not wait: then it was never pending.
	const skipped = { pending: steps.length > 0 && !first('pending') };
	const names = { ended: ended ? run.status : 'ended', pending: skipped.pending ? 'created' : 'pending' };
	const names2 = run.status === 'paused' ? { [at]: 'paused' } : {};

	return el('ol', { class: 'life', 'aria-label': 'The life of the run' }, order.map((step, i) =>
	{
		const here = step === at;
		const past = order.indexOf(at) > i || times[step] && !here;
		const until = times[order[i + 1]] || (here && !ended ? data.now : null);
		// What took less than a second is not worth a number.
		const took = step !== 'ended' && times[step] && until ? between(times[step], until) / 1000 : null;
		const lasted = took >= 1 || here && took !== null ? took : null;

		return el('li', {
			class: [here ? 'here' : past ? 'past' : 'future', here && 'is-' + run.status].filter(Boolean).join(' '),
			'aria-current': here ? 'step' : null,
		},
		el('span', { class: 'step' }, names2[step] || names[step] || step),
		el('span', { class: 'when' }, times[step] ? time(times[step], data.now)
			: step === 'pending' || past ? '' : 'not yet'),
		here && step === 'pending' && run.start_at ? el('span', { class: 'when' }, 'begins at ', time(run.start_at, data.now)) : null,
		lasted !== null ? el('span', { class: here ? 'lasted now' : 'lasted' }, here && !ended ? 'for ' + span(lasted) : span(lasted)) : null);
	}));
}

// --- Why it does what it does ---

function callouts(run, data)
{
	const rows = [];

	if (run.error && run.status === 'failed')
		rows.push(el('div', { class: 'callout bad', 'data-key': 'error' },
			el('p', null, el('strong', null, run.error), run.sqlstate ? el('span', { class: 'quiet' }, ` SQLSTATE ${run.sqlstate}`) : null),
			run.error_detail ? el('p', null, run.error_detail) : null,
			run.error_hint ? el('p', null, 'Hint: ' + run.error_hint) : null,
			run.error_context ? el('p', { class: 'quiet pre' }, run.error_context) : null));
	if (run.wait_reason)
		rows.push(el('div', { class: 'callout warn', 'data-key': 'wait' }, el('p', null, el('b', null, 'Waits: '), run.wait_reason)));
	if (run.throttled_by)
		rows.push(el('div', { class: 'callout warn', 'data-key': 'throttle' }, el('p', null, el('b', { class: 'now' }, isHeld(run) ? 'Held by ' : 'Slowed by '), reason(run.throttled_by),
			run.throttled_since ? el('span', { class: 'quiet now' }, '; so for ', span(between(run.throttled_since, data.now) / 1000)) : null)));
	if (run.space_kept_by)
		rows.push(el('div', { class: 'callout warn', 'data-key': 'space' }, el('p', null, el('b', null, 'Space is kept by '), run.space_kept_by)));
	if (run.errors > 0 && run.status !== 'failed')
		rows.push(el('div', { class: 'callout warn', 'data-key': 'errors' }, el('p', null, el('a', { href: `/runs/${run.id}/errors` }, plural(run.errors, 'row')),
			' skipped because of an error.')));
	return rows;
}

function progress(run, data)
{
	const live = isActive(run);
	const soFar = text => el('span', { class: live ? 'now' : null }, text);

	return el('section', { class: 'panel progress', 'aria-labelledby': 'h-progress' },
		el('h2', { id: 'h-progress', class: 'hidden' }, 'Progress'),
		el('div', { class: 'big-line' },
			el('span', { class: 'big-number now' }, percent(run.progress)),
			el('span', { class: live ? 'quiet now' : 'quiet' }, run.rows_total === null ? `${count(run.rows_scanned)} rows`
				: `${count(run.rows_scanned)} of ${live && run.progress < 99.99 ? 'about ' : ''}${plural(run.rows_total, 'row')}`)),
		bar(run, true),
		facts([
			[live ? 'Rate' : 'Average rate', run.started_at ? el('span', { class: live ? 'now' : null }, rateText(run) + ' rows/s') : null],
			['ETA', live && run.started_at ? el('span', { class: 'now' }, etaText(run, data.now)) : null],
			['At work', run.started_at ? el('span', { class: live ? 'now' : null }, span(between(run.started_at, run.finished_at || data.now) / 1000)) : null],
			['Rows changed', soFar(count(run.rows_affected))],
			['Batches', soFar(count(run.batches))],
			['Rows of a batch', run.batch_size === null ? null : soFar(count(run.batch_size))],
			['Workers', live ? el('span', { class: 'now' }, count(run.workers)) : null],
			['WAL', soFar(bytes(run.wal_bytes))],
			['Rows skipped', run.errors > 0 ? el('a', { class: live ? 'now' : null, href: `/runs/${run.id}/errors` }, count(run.errors)) : soFar('0')],
			['Repaired', run.repaired > 0 ? soFar(count(run.repaired)) : null],
			['Gave way', run.yields > 0 ? soFar(plural(run.yields, 'time')) : null],
			['Rows left in scope', run.rows_remaining === null ? null : count(run.rows_remaining)],
			['Growth of the table', run.table_growth === null ? null : soFar(`${bytes(run.table_growth)} on ${bytes(run.table_size)}`)],
			['Growth of its indexes', run.index_growth === null ? null : soFar(`${bytes(run.index_growth)} on ${bytes(run.index_size)}`)],
			['Space made', run.space_freed > 0 ? soFar(`${bytes(run.space_freed)} on ${plural(run.pages_pruned, 'page')}`) : null],
		], { class: 'facts tiles' }));
}

// --- Who works ---

// Something of this moment.
function now(text)
{
	return el('span', { class: 'now' }, text);
}

function hands(data)
{
	const workers = data.workers || [];
	const clients = data.clients || [];
	const parts = [];

	if (workers.length > 0)
		parts.push(table({
			caption: 'Workers', rows: workers, key: w => 'worker-' + w.worker,
			columns: [
				{ label: 'Worker', head: true, cell: w => w.worker },
				{ label: 'State', cell: w => el('span', { class: 'now' }, w.state) },
				...workers.some(w => w.stream) ? [{ label: 'Stream', cell: w => w.stream || '' }] : [],
				{ label: 'For', num: true, cell: w => el('span', { class: 'now' }, span(Math.max(0, between(w.state_since, data.now) / 1000))) },
				{ label: 'Batch', num: true, cell: w => now(w.batch === null ? '–' : count(w.batch) + (w.attempt > 1 ? `, attempt ${w.attempt}` : '')) },
				{ label: 'Batches', num: true, cell: w => now(count(w.batches)) },
				{ label: 'Rows', num: true, cell: w => now(count(w.rows_scanned)) },
				{ label: 'Process', num: true, cell: w => w.pid },
				{ label: 'Since', num: true, cell: w => time(w.started_at, data.now) },
			],
		}));
	if (clients.length > 0)
		parts.push(table({
			caption: 'Clients', rows: clients, key: c => `client-${c.client}-${c.role}-${c.application_name}-${c.client_addr}`,
			columns: [
				{ label: 'Client', head: true, cell: c => c.client || '(no name)' },
				{ label: 'Role', cell: c => c.role },
				{ label: 'From', cell: c => [c.application_name, c.client_addr].filter(Boolean).join(' at ') || '–' },
				{ label: 'Batches in hand', num: true, cell: c => el('span', { class: 'now' }, count(c.batches_out)) },
				{ label: 'Rows', num: true, cell: c => now(count(c.rows_scanned)) },
				{ label: 'Since', num: true, cell: c => time(c.started_at, data.now) },
				{ label: 'Lease until', num: true, cell: c => c.lease_until ? time(c.lease_until, data.now) : 'end of session' },
			],
		}));
	if (parts.length === 0)
		return null;
	return el('section', { 'data-key': 'hands', 'aria-labelledby': 'h-hands' },
		el('h2', { id: 'h-hands' }, clients.length > 0 ? 'Workers and clients' : 'Workers'), parts);
}

// What the run is divided into, each with its own place.
function streams(data)
{
	const rows = data.streams || [];

	if (rows.length === 0)
		return null;
	return el('section', { 'data-key': 'streams', 'aria-labelledby': 'h-streams' },
		el('h2', { id: 'h-streams' }, 'Streams', rows.length >= 200 ? el('span', { class: 'quiet' }, ' (the first 200)') : null),
		table({
			caption: 'Streams', rows, key: s => 'stream-' + s.name,
			columns: [
				{ label: 'Stream', head: true, cell: s => [s.name, s.target && s.target !== s.name ? el('span', { class: 'sub' }, s.target) : null] },
				{ label: 'Status', cell: s => statusChip(s.status) },
				{ label: 'Progress', class: 'progress-cell', cell: s => [bar({ ...s, id: `${data.run.id}, stream ${s.name}` }), el('span', { class: 'now' }, percent(s.progress))] },
				{ label: 'Rows', num: true, cell: s => now(count(s.rows_scanned)) },
				{ label: 'Changed', num: true, phone: false, cell: s => now(count(s.rows_affected)) },
				{ label: 'Batches', num: true, phone: false, cell: s => now(count(s.batches)) },
				{ label: 'Workers', num: true, cell: s => el('span', { class: 'now' }, count(s.workers)) },
				{ label: 'ETA', num: true, cell: s => el('span', { class: 'now' }, s.eta === null ? '–' : span(seconds(s.eta))) },
				{ label: 'At', phone: false, cell: s => el('span', { class: 'mono quiet' }, s.cursor === null ? '' : value(s.cursor)) },
				{ label: 'Waits or failed', wide: true, cell: s => s.error ? el('span', { class: 'bad-text' }, s.error) : s.wait_reason ? el('span', { class: 'quiet' }, s.wait_reason) : '' },
			],
		}));
}

function throttleTimes(run)
{
	const times = Object.entries(run.throttle_times || {}).sort((a, b) => b[1] - a[1]);

	return times.length === 0 ? null : facts(times.map(([name, s]) => [name, span(Number(s))]), { class: 'facts', 'aria-label': 'Throttled in all' });
}

function texts(data)
{
	const run = data.texts || data.run;
	const parts = [['Statement', run.statement], ['Scope', run.scope], ['Prepare', run.prepare], ['Finish', run.finish]].filter(([, text]) => text);
	const parameters = Object.entries(run.parameters || {});

	return el('section', { 'data-key': 'texts', 'aria-labelledby': 'h-texts' },
		el('h2', { id: 'h-texts' }, 'What it does'),
		run.statement ? null : el('p', { class: 'quiet' }, 'It has no statement: clients do the work.'),
		parts.map(([name, text]) => [el('h3', null, name), el('pre', { tabindex: '0', role: 'group', 'aria-label': name }, text)]),
		parameters.length > 0 ? [el('h3', null, 'Parameters'), facts(parameters.map(([name, v]) => [name, value(v)]), { class: 'facts mono' })] : null);
}

export function view(data, context)
{
	const { run } = data;
	const series = points(data);
	const throttled = throttleTimes(run);

	return fragment(
		el('div', { class: 'head' },
			el('h1', null, el('span', { class: 'id' }, '#' + run.id), ' ', el('a', { href: '/definitions/' + encodeURIComponent(run.name) }, run.name), ' ', statusChip(run.status)),
			buttons(run, data.may || {})),
		el('p', { class: 'under' }, run.target ? ['on ', el('b', null, run.target)] : '', ' as ', run.owner,
			run.started_by && run.started_by !== run.owner ? `, started by ${run.started_by}` : '',
			data.note ? [', because ', el('q', null, data.note)] : ''),
		runNav(run, 'Overview', run.errors),
		life(run, data),
		callouts(run, data),
		progress(run, data),
		run.started_at ? el('section', { class: 'charts', 'data-key': 'charts', 'aria-labelledby': 'h-charts' },
			el('h2', { id: 'h-charts', class: 'hidden' }, 'Charts'), CHARTS.map(kind => charts.place(kind, run.id, series))) : null,
		throttled ? el('section', { 'data-key': 'throttled', 'aria-labelledby': 'h-throttled' }, el('h2', { id: 'h-throttled' }, 'Throttled in all'), throttled) : null,
		hands(data),
		streams(data),
		settingsInForce(data, context),
		texts(data));
}

// The points of the charts, with the batch time that is aimed at.  What was made of the last batches ends with a piece of time that had
// not ended; where a measured point is earlier than that, it holds.
function points(data)
{
	const setting = (data.settings || []).find(s => s.name === 'target_batch_time');
	const target = setting ? milliseconds(setting.value ?? setting.default) : null;
	const found = [];

	for (const point of data.series || [])
	{
		while (found.length > 0 && Date.parse(found[found.length - 1].at) >= Date.parse(point.at))
			found.pop();
		found.push({ target: target || null, ...point });
	}
	return found;
}

// Feed the charts, once the picture is in the page.
export function after(data, root)
{
	for (const kind of CHARTS)
		charts.feed(root, kind, data.run.id, points(data));
}

// What is said aloud when the data change from `before` to these.
export function news(data, before)
{
	const { run } = data;
	const said = [];

	if (!before || before.run.id !== run.id)
		return said;
	if (before.run.status !== run.status)
		said.push({ text: `Run ${run.id} of ${run.name} is ${run.status}${run.error && run.status === 'failed' ? ': ' + run.error : ''}.` });
	if (charts.reasonName(before.run.throttled_by) !== charts.reasonName(run.throttled_by))
		said.push({ quiet: true, text: run.throttled_by ? `It is ${isHeld(run) ? 'held' : 'slowed'} by ${charts.reasonName(run.throttled_by)}.` : 'Nothing slows it any more.' });
	return said;
}
