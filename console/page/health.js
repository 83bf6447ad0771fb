// The screen of the server's health: standbys, slots, vacuum on the targets, old snapshots, archive, and beside each the limit
// that a run has for it.

import { el, fragment, table } from './dom.js';
import { bytes, count, milliseconds, percent, plural, seconds, span, time, value } from './format.js';

export function title()
{
	return 'Health';
}

// A limit and where it stands: a meter where both are numbers, always a text.
function limitRow(l)
{
	const now = numeric(l.now);
	const limit = numeric(l.limit);
	const load = now !== null && limit ? now / limit : null;

	return [
		load === null ? null : el('meter', { min: 0, max: 1, low: 0.7, high: 0.9999, optimum: 0, value: Math.min(load, 1),
			'aria-label': `${l.setting} of run ${l.run}`, 'aria-valuetext': Math.round(load * 100) + ' % of the limit' }),
		el('span', { class: load !== null && load >= 1 ? 'bad-text' : load !== null && load >= 0.7 ? 'warn-text' : 'quiet' },
			load === null ? '' : Math.round(load * 100) + ' %'),
	];
}

// A measure or a limit as a number: bytes, files and ages are numbers, a lag is an interval, a size may have its unit.
function numeric(v)
{
	if (v === null || v === undefined)
		return null;
	if (typeof v === 'number')
		return v;
	if (/^-?\d+(\.\d+)?$/.test(v))
		return Number(v);
	const size = /^(\d+(?:\.\d+)?) ?(kB|MB|GB|TB)$/.exec(v);
	if (size)
		return Number(size[1]) * 1024 ** (1 + ['kB', 'MB', 'GB', 'TB'].indexOf(size[2]));
	if (/^\d+:\d\d:\d\d|day/.test(v))
		return seconds(v);
	return milliseconds(v) === null ? null : milliseconds(v) / 1000;
}

// How a column is written, by what its name says of its unit.
function written(name, v, now)
{
	if (v === null || v === undefined)
		return '–';
	if (/bytes$/.test(name) && typeof v === 'number')
		return bytes(v);
	if (name === 'dead_share' && typeof v === 'number')
		return percent(v * 100);
	if (name === 'lag' && typeof v === 'string' && numeric(v) !== null)
		return span(numeric(v));
	if (/(_at|_start|prepared|last_vacuum|last_analyze)$/.test(name) && typeof v === 'string')
		return time(v, now);
	if (typeof v === 'boolean')
		return v ? 'yes' : 'no';
	return typeof v === 'number' ? count(v) : value(v);
}

// The limits of runs that are about the settings named, as a line under the table.
function limitsFor(data, names)
{
	const rows = (data.limits || []).filter(l => names.includes(l.setting));

	if (names.length === 0)
		return null;
	return rows.length === 0 ? el('p', { class: 'quiet' }, `No active run has a limit for it (${names.join(', ')}).`)
		: table({
			caption: 'Limits: ' + names.join(', '), rows, key: l => `limit-${l.run}-${l.setting}`,
			columns: [
				{ label: 'Run', head: true, cell: l => el('a', { href: '/runs/' + l.run }, `#${l.run} ${l.name || ''}`) },
				{ label: 'Setting', cell: l => el('span', { class: 'mono' }, l.setting) },
				{ label: 'Now', num: true, cell: l => el('span', { class: 'now' }, written(unit(l.setting), l.now, data.now)) },
				{ label: 'Limit', num: true, cell: l => written(unit(l.setting), l.limit, data.now) },
				{ label: 'Load', class: 'progress-cell', cell: limitRow },
				{ label: 'Holds', wide: true, cell: l => l.holds ? el('span', { class: 'warn-text' }, l.why) : '' },
			],
		});
}

function unit(setting)
{
	return /bytes|retained|growth/.test(setting) ? 'bytes' : /lag/.test(setting) ? 'lag' : setting === 'max_dead_rows' ? 'dead_share' : setting;
}

// A table with those columns.
function measures(caption, rows, columns, now, empty)
{
	return table({
		caption, rows, key: row => value(columns.slice(0, 2).map(name => row[name])), empty,
		columns: columns.map((name, i) => ({
			label: name.replace(/_/g, ' '), head: i === 0, num: NUMBERS.test(name), wide: name === 'query',
			cell: row => el('span', { class: i === 0 ? null : name === 'query' ? 'mono quiet' : 'now' }, written(name, row[name], now)),
		})),
	});
}

const NUMBERS = /^(lag|live|dead|dead_share|scanned|age|archived|failed|pid)$|bytes$/;

const PARTS = [
	['standbys', 'Standbys', ['name', 'address', 'state', 'sync', 'lag', 'lag_bytes'], 'No standby is connected.', ['max_replica_lag', 'max_replica_lag_bytes']],
	['slots', 'Replication slots', ['name', 'type', 'active', 'status', 'retained_bytes', 'safe_bytes'], 'There is no replication slot.', ['max_slot_retained']],
	['vacuum', 'Vacuum on the targets', ['table', 'live', 'dead', 'dead_share', 'last_vacuum', 'last_analyze', 'running', 'scanned'], 'No run is active.',
		['max_dead_rows', 'pause_for_maintenance', 'max_growth']],
	['snapshots', 'Old snapshots', ['pid', 'role', 'application_name', 'state', 'xact_start', 'age', 'query'], 'No session holds a snapshot.', ['max_xmin_age']],
	['prepared', 'Prepared transactions', ['gid', 'role', 'prepared', 'age'], 'There is none.', []],
	['archive', 'WAL archive', ['mode', 'archived', 'failed', 'last_archived', 'last_archived_at', 'last_failed', 'last_failed_at'], 'Nothing is known.', ['max_archive_backlog']],
	['sessions', 'Sessions at work', ['sessions'], '', ['max_active_sessions']],
];

// The rows of a part: an array, one object, or a number.
function rowsOf(data, name)
{
	const found = data[name];

	return Array.isArray(found) ? found : found === null || found === undefined ? [] : typeof found === 'object' ? [found] : [{ [name]: found }];
}

export function view(data)
{
	return fragment(
		el('div', { class: 'head' }, el('h1', null, 'Health')),
		el('p', { class: 'under' }, 'What can hold a run, and how near each is to the limit that a run has for it.'),
		PARTS.map(([name, heading, columns, empty, settings]) => el('section', { 'data-key': name, 'aria-labelledby': 'h-' + name },
			el('h2', { id: 'h-' + name }, heading),
			name === 'sessions' ? el('p', { class: 'now' }, plural(data.sessions || 0, 'client session') + ' active.')
				: measures(heading, rowsOf(data, name), columns, data.now, empty),
			limitsFor(data, settings))));
}
