"""Texts that describe the renderer's styles, for testing retrieval: written before anything was trained on them.

Conventions: what a listener might type; no text here, and no phrase of it worth mentioning, was taken from the training
texts (`pipeline.conditioning.phrases`), and none was changed after a measurement. `FIVE` are the styles of the bar.
"""

from collections.abc import Mapping

FIVE = ("pop", "rock", "electronic", "folk", "reggae")

PARAPHRASES: Mapping[str, tuple[str, ...]] = {
    "pop": (
        "Shiny chart-topper with bouncy keys",
        "Music for a mainstream radio playlist",
        "Light, catchy single that everybody hums",
        "Teen idol anthem, polished and upbeat",
        "Contemporary hit with a big hook",
    ),
    "rock": (
        "Electric guitar riffs over heavy drumming",
        "Four friends playing loud in a garage",
        "Rebellious stadium music with crunchy amplifiers",
        "Straight-ahead rock for a long drive",
        "Gritty alternative band from the nineties",
    ),
    "ballad": (
        "Slow and heartfelt, piano with violins",
        "A gentle tune for the last dance at a wedding",
        "Tear-jerking love theme",
        "Quiet heartbreak number that swells into a big emotional finale",
        "Sad slow song with an orchestra behind it",
    ),
    "funk": (
        "Syncopated bass line, scratchy guitar and horns",
        "Seventies party groove, everything on the one",
        "Slapped bass and clavinet",
        "James Brown's band vamping",
        "Something really funky to strut to",
    ),
    "electronic": (
        "Synthesizers and sequencers, no acoustic instruments",
        "Music for a rave",
        "Programmed drums with buzzing leads",
        "Robotic computer-made dance track",
        "EDM banger for a festival main stage",
    ),
    "folk": (
        "Acoustic guitar and banjo by the fire",
        "An old village tune",
        "Homespun troubadour with nothing but wooden instruments",
        "Fiddle and squeezebox in a pub",
        "In Woody Guthrie's tradition",
    ),
    "reggae": (
        "Skanking guitar on the off-beat",
        "Laid-back Jamaican vibes",
        "Bob Marley's backing band",
        "Rimshots, heavy bass and a Caribbean sun",
        "Lee Perry at the mixing desk, full of echo",
    ),
    "jazz": (
        "Walking double bass, ride cymbal and tenor sax",
        "Late set in a smoky cellar club",
        "A swinging standard with improvised solos",
        "Bebop quartet",
        "Cool trumpet over brushed drums",
    ),
    "bossa": (
        "Nylon strings and a gentle Brazilian rhythm",
        "Jobim and Gilberto on a Rio beach",
        "Mellow samba for a cocktail lounge",
        "Ipanema at sunset",
        "Soft Latin guitar with a flute",
    ),
    "disco": (
        "Glitter ball, octave bass and sweeping strings",
        "Saturday night at Studio 54",
        "Seventies dancefloor in bell-bottoms",
        "Chic's scratchy guitar over four on the floor",
        "Donna Summer era party record",
    ),
    "metal": (
        "Brutal palm-muted riffs and double kick",
        "Headbanging thrash",
        "Aggressive down-tuned guitars",
        "Iron Maiden gallop",
        "Black-clad, furious, very heavy",
    ),
    "hip hop": (
        "Dusty drum loop for an MC",
        "Relaxed beats to study to",
        "Old-school breakbeat from the Bronx",
        "A rap instrumental",
        "Head-nodding beat with a deep sub",
    ),
    "soul": (
        "Motown groove with warm organ and tambourine",
        "Stax house band with tight horns",
        "Smooth sixties R&B",
        "In the spirit of Aretha Franklin and Otis Redding",
        "Velvety, yearning, straight from Memphis",
    ),
    "country": (
        "Nashville twang",
        "Boots, hats and a line dance",
        "Johnny Cash's boom-chicka rhythm",
        "Cowboy tune for a dusty highway",
        "Honky-tonk bar band with a banjo",
    ),
    "waltz": (
        "Three-quarter time for a ballroom",
        "One-two-three, one-two-three, with accordion",
        "Musette in a Paris café",
        "Couples turning under Viennese chandeliers",
        "An old-fashioned dance in triple metre",
    ),
    "gospel": (
        "Sunday service with a Hammond and clapping hands",
        "Spiritual praise music",
        "Church organ and rolling piano in six-eight",
        "Hallelujah, the congregation rises",
        "Devotional and grand, from a Baptist chapel",
    ),
    "salsa": (
        "Congas, piano montuno and blazing trumpets",
        "A hot night in Havana",
        "Clave and cowbell for Cuban dancers",
        "Tito Puente's orchestra",
        "Spicy tropical dance party",
    ),
    "blues": (
        "Twelve bars of heartache",
        "Muddy Waters in a Chicago bar",
        "Wailing harmonica over a lazy shuffle",
        "Bent strings and a broken heart from the Mississippi delta",
        "B.B. King's guitar crying",
    ),
    "house": (
        "Deep club groove with organ stabs and a kick on every beat",
        "Chicago warehouse, four in the morning",
        "Ibiza terrace DJ",
        "Soulful piano chords over a steady thump for dancing",
        "Warm minimal dance music that goes on all night",
    ),
    "synthwave": (
        "Neon eighties nostalgia",
        "Gated drums and analogue arpeggios",
        "Soundtrack of a retro-futuristic car chase",
        "Outrun on a VHS tape",
        "Kavinsky and Depeche Mode at midnight",
    ),
    "punk": (
        "Three chords as fast as possible",
        "Ramones and Green Day",
        "Snotty, rebellious, two minutes long",
        "Skate-park guitars at breakneck speed",
        "Mohawks and safety pins",
    ),
    "ambient pop": (
        "Weightless pads and distant chimes",
        "Ethereal shimmering haze",
        "Slow glacial textures to drift away to",
        "Cocteau Twins floating through the clouds",
        "Calm, spacious, half asleep",
    ),
}
