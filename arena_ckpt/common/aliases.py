"""Names that other frameworks use, and what is meant by them here.

The tables are for messages alone: no alias is accepted in place of a name. Their keys
are in lower case without ``_``, ``-`` and spaces, so that ``BatchNorm2d``,
``batch_norm2d`` and ``batch-norm-2d`` are one. Where a name can mean several things,
the first that the owner has is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Alias:
    """What a name of another framework is here.

    Attributes
    ----------
    name : str
        Name here; empty where there is none, and `note` says what to do.
    properties : str
        Properties that it needs to mean the same, such as ``"activation=relu"``.
    note : str
        What else there is to know.
    """

    name: str
    properties: str = ""
    note: str = ""

    def text(self) -> str:
        """Return what a message says of it."""
        beside = f" with {self.properties}" if self.properties else ""
        question = f"did you mean {self.name!r}{beside}?" if self.name else ""
        return "; ".join(part for part in (question, self.note) if part)


Table = Mapping[str, tuple[Alias, ...]]


def renamed(word: object, aliases: Table, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x' with y=z?)"`` for a message, or nothing.

    Parameters
    ----------
    word : object
        A name that is unknown.
    aliases : mapping
        One of the tables below.
    known : iterable of str
        Names that there are; aliases of others are passed over.
    """
    key, names = _squeezed(word), list(known)
    for name in names:
        if _squeezed(name) == key:
            return f" ({Alias(name).text()})"
    for alias in aliases.get(key, ()):
        if alias.name in names or not alias.name:
            return f" ({alias.text()})"
    return ""


def _squeezed(word: object) -> str:
    if not isinstance(word, str):
        return ""
    return word.strip().lower().replace("_", "").replace("-", "").replace(" ", "")


def _table(*rows: tuple[str, Alias | tuple[Alias, ...]]) -> Table:
    """Return a table of rows of words and what they mean."""
    found: dict[str, tuple[Alias, ...]] = {}
    for words, aliases in rows:
        for word in words.split():
            assert word not in found, word
            found[word] = aliases if isinstance(aliases, tuple) else (aliases,)
    return found


def _activation(words: str, name: str, note: str = "") -> tuple[str, Alias]:
    return words, Alias("activation", f"activation={name}", note)


def _pooling(words: str, name: str) -> tuple[str, Alias]:
    return words, Alias("pooling2d", f"pooling={name}")


LAYERS = _table(
    (
        "dense linear fc affine gemm innerproduct denselayer linearlayer perceptron",
        Alias("fully_connected"),
    ),
    _activation("relu", "relu"),
    _activation("leakyrelu lrelu", "leaky_relu"),
    _activation("sigmoid logistic", "sigmoid"),
    _activation("tanh", "tanh"),
    _activation("gelu", "gelu"),
    _activation("tanhgelu gelutanh fastgelu gelunew", "tanh_gelu"),
    _activation("sigmoidgelu quickgelu", "sigmoid_gelu"),
    _activation("swish silu", "swish"),
    _activation("elu", "elu"),
    _activation("selu", "selu"),
    _activation("softplus", "softplus"),
    _activation("mish", "mish"),
    _activation("relu6", "relu6"),
    _activation("hardsigmoid", "hard_sigmoid"),
    _activation("hardswish hswish", "hard_swish"),
    _activation("hardtanh", "clamp(min=-1)", "and max=1: clamp(min=-1, max=1)"),
    _activation("clamp clip", "clamp(min=0)", "with bounds of yours"),
    _activation("exp exponential", "exp"),
    _activation("log logarithm", "log"),
    _activation("abs absolute", "abs"),
    _activation("sin sine", "sin"),
    _activation("cos cosine", "cos"),
    _activation("tan tangent", "tan"),
    ("parametricrelu", Alias("prelu")),
    ("max elementwisemax", Alias("maximum")),
    ("min elementwisemin", Alias("minimum")),
    ("condition ifelse", Alias("where")),
    ("amax maxreduce", Alias("reduce_max")),
    ("amin minreduce", Alias("reduce_min")),
    ("prod reduceproduct", Alias("reduce_prod")),
    ("l2norm vectornorm reducel2", Alias("norm")),
    ("cumulativesum runningsum", Alias("cumsum")),
    ("take indexselect", Alias("gather")),
    ("cosinedistance", Alias("cosine_similarity", note="1 less the distance")),
    ("stochasticdepth", Alias("drop_path")),
    _activation(
        "softmax",
        "softmax",
        "the loss cross_softmax has its own and needs none before it",
    ),
    ("conv convolution convolution2d conv2dlayer", Alias("conv2d")),
    ("groupedconv groupconv groupedconv2d groupconv2d", Alias("conv2d", "groups=2")),
    ("convolution1d temporalconv", Alias("conv1d")),
    (
        "convtranspose convtranspose2d conv2dtransposed transposedconv "
        "transposedconv2d deconv deconvolution deconv2d",
        Alias("conv2dtranspose"),
    ),
    (
        "depthwise depthwiseconv dwconv dwconv2d depthwiseconvolution2d",
        Alias("depthwiseconv2d"),
    ),
    ("bn batchnorm batchnorm1d batchnorm2d", Alias("batch_normalization")),
    ("ln layernorm", Alias("layer_normalization")),
    ("gn groupnorm", Alias("group_normalization")),
    (
        "in instancenorm instancenorm1d instancenorm2d",
        Alias("instance_normalization", note="PyTorch's has affine=false"),
    ),
    ("rmsnormalization rms", Alias("rms_norm")),
    _pooling("maxpool maxpool2d maxpooling maxpooling2d pool pooling pool2d", "max"),
    _pooling(
        "avgpool avgpool2d averagepool averagepooling averagepooling2d meanpool "
        "avgpooling2d",
        "average",
    ),
    _pooling("globalmaxpool globalmaxpool2d globalmaxpooling2d", "global_max"),
    _pooling(
        "globalavgpool globalavgpool2d globalaveragepool globalaveragepooling "
        "globalaveragepooling2d gap",
        "global_average",
    ),
    _pooling(
        "adaptiveavgpool adaptiveavgpool1d adaptiveavgpool2d adaptiveaveragepooling",
        "adaptive_average",
    ),
    _pooling("adaptivemaxpool adaptivemaxpool1d adaptivemaxpool2d", "adaptive_max"),
    (
        "zeropad zeropad1d zeropad2d zeropadding zeropadding2d padding constantpad2d",
        Alias("pad"),
    ),
    ("reflectionpad1d reflectionpad2d mirrorpad", Alias("pad", "padding_mode=reflect")),
    (
        "replicationpad1d replicationpad2d edgepad",
        Alias("pad", "padding_mode=replicate"),
    ),
    ("depthtospace subpixel subpixelconv", Alias("pixel_shuffle")),
    ("shuffle shufflechannels groupshuffle", Alias("channel_shuffle")),
    ("upsample upsampling upsampling2d resize interpolate", Alias("upsample2d")),
    (
        "crossentropy crossentropyloss categoricalcrossentropy softmaxcrossentropy "
        "softmaxloss nll nllloss",
        Alias("cross_softmax"),
    ),
    (
        "sparsecategoricalcrossentropy sparsecrossentropy",
        Alias("cross_softmax", note="it takes class numbers as they are"),
    ),
    ("cross", Alias("cross_softmax", note="of single bits it is cross_sigmoid")),
    (
        "bce bceloss bcewithlogits bcewithlogitsloss binarycrossentropy "
        "sigmoidcrossentropy logisticloss",
        Alias("cross_sigmoid"),
    ),
    ("mseloss meansquarederror l2loss squarederror", Alias("mse")),
    (
        "l1 l1loss maeloss meanabsoluteerror absoluteerror absolutedifference",
        Alias("mae"),
    ),
    ("huberloss", Alias("huber")),
    (
        "smoothl1 smoothl1loss",
        Alias("huber", note="which is delta times as large, with delta for beta"),
    ),
    ("kl kldiv kldivloss kldivergence kullbackleibler", Alias("kld")),
    (
        "selfattention mha multiheadselfattention multiheadattentionlayer",
        Alias("multi_head_attention"),
    ),
    (
        "scaleddotproductattention sdpa dotproductattention groupedqueryattention gqa",
        Alias("attention"),
    ),
    (
        "rope rotary rotaryembeddings rotarypositionalembeddings rotarypositions "
        "rotarypositionembedding llamarotaryembedding",
        Alias("rotary_embedding"),
    ),
    (
        "parameter learnable trainableparameter param nnparameter weightlayer",
        Alias("weight"),
    ),
    ("buffer registerbuffer const constantlayer anchors", Alias("constant")),
    ("embed embeddings lookup embeddinglayer", Alias("embedding")),
    (
        "posenc posencoding posembedding positionalembedding positionencoding",
        Alias("positional_encoding"),
    ),
    ("concatenate cat concatenation merge", Alias("concat")),
    ("expandas broadcastto repeatbatch", Alias("expand")),
    (
        "cast castlayer todtype astype",
        Alias(
            "",
            note="all tensors are float32, and ids are whole numbers in them, whatever "
            "the dtype of the data: leave it out",
        ),
    ),
    ("residual skip shortcut sum elementwiseadd", Alias("addition")),
    ("sub minus", Alias("subtract")),
    ("mul product times", Alias("multiply")),
    ("div", Alias("divide")),
    ("neg", Alias("negative")),
    ("power", Alias("pow")),
    ("squareroot", Alias("sqrt")),
    ("mean globalmean", Alias("reduce_mean")),
    ("batchmatmul bmm dot", Alias("matmul")),
    ("transpose", Alias("permute")),
    ("view unflatten", Alias("reshape")),
    ("chunk", Alias("split")),
    ("noop passthrough", Alias("identity")),
    ("inputlayer placeholder", Alias("input")),
    ("dropoutlayer dropout1d alphadropout", Alias("dropout")),
    ("simplernn elmanrnn elman", Alias("rnn")),
    ("bilstm bidirectionallstm", Alias("lstm", "bidirectional=true")),
    ("bigru bidirectionalgru", Alias("gru", "bidirectional=true")),
    ("glu geglu", Alias("swiglu", note="swish(in0) * in1 is the gate that there is")),
)
"""Types of layers; losses are layers."""

_SIZE_FOLLOWS = Alias(
    "",
    note="the size of what a layer reads follows from the layer before; leave it out",
)
_STANDARDIZED = Alias("standardization", note="it is a property of input layers")
_NOT_BY_BATCH = Alias(
    "",
    note="by the least and largest value of each batch, as NNTrainer does it, a "
    "prediction would depend on the samples beside it; inputs are standardized by the "
    "training data instead: standardization=true at the input layer, "
    "model.standardize(training_data), or train --standardize",
)
_OF_TRAINING_DATA = Alias(
    "",
    note="inputs are standardized by statistics of the training data: "
    "standardization=true at the input layer, model.standardize(training_data), or "
    "train --standardize",
)
_OPPOSITE = "it means the opposite"
_OF_OPTIMIZER = Alias(
    "",
    note="it is a property of the optimizer: set_optimizer('adam', "
    "learning_rate=0.001), or [Optimizer] in an INI file",
)

PROPERTIES = _table(
    # Layers.
    (
        "units outfeatures hiddensize hiddenunits hiddendim numunits nunits neurons "
        "outputsize",
        Alias("unit"),
    ),
    ("standardize standardise standardisation", (_STANDARDIZED, _OF_TRAINING_DATA)),
    ("standardization", _OF_TRAINING_DATA),
    ("normalization normalize normalise normalisation", _NOT_BY_BATCH),
    ("features", (Alias("unit"), Alias("filters"), Alias("out_dim"))),
    (
        "outchannels numfilters nfilters filter channelsout outputchannels",
        Alias("filters"),
    ),
    ("channels", Alias("filters")),
    (
        "kernel ksize kernelshape kernels filtersize window windowsize",
        (Alias("kernel_size"), Alias("pool_size")),
    ),
    ("pool poolshape kernelsize", Alias("pool_size")),
    ("poolsize", Alias("kernel_size")),
    (
        "scale scalefactor upsamplesize",
        (Alias("kernel_size"), Alias("upscale_factor")),
    ),
    ("factor", (Alias("kernel_size"), Alias("upscale_factor"), Alias("value"))),
    ("size", (Alias("unit"), Alias("pool_size"), Alias("kernel_size"))),
    ("strides subsample", Alias("stride")),
    ("pad pads paddings", Alias("padding")),
    ("dilationrate dilations rates", Alias("dilation")),
    ("outputpad", Alias("output_padding")),
    ("paddingmode padmode", Alias("padding_mode")),
    ("mode", (Alias("padding_mode"), Alias("pooling"), Alias("upsample"))),
    ("upscale blocksize", Alias("upscale_factor")),
    ("countincludepadding includepad", Alias("count_include_pad")),
    ("group numgroups ngroups cardinality", (Alias("groups"), Alias("num_groups"))),
    ("groups", Alias("num_groups")),
    ("elementwiseaffine center scaleandcenter", Alias("affine")),
    ("channelmultiplier multiplier", Alias("depth_multiplier")),
    ("infeatures inchannels inputsize inputchannels", _SIZE_FOLLOWS),
    (
        "numembeddings vocabsize vocabularysize vocab numtokens ntokens",
        Alias("in_dim"),
    ),
    ("inputdim", (Alias("in_dim"), _SIZE_FOLLOWS)),
    (
        "embeddingdim embeddim dmodel embeddingsize",
        (
            Alias("out_dim"),
            Alias("output_shape"),
        ),
    ),
    ("outputdim", (Alias("unit"), Alias("out_dim"), Alias("output_shape"))),
    ("heads nheads nhead numberofheads attentionheads", Alias("num_heads")),
    (
        "kvheads nkvheads numkvheads numkeyvalueheads nheadskv headskv",
        Alias("num_heads_kv"),
    ),
    ("keydim headdim kdim dk headsize", Alias("projected_key_dim")),
    ("valuedim vdim dv", Alias("projected_value_dim")),
    ("causal usecausalmask iscausalmask", Alias("is_causal")),
    (
        "dropout rate p prob probability droprate dropprob dropoutprob dropoutp",
        Alias("dropout_rate"),
    ),
    (
        "negativeslope minval maxval",
        Alias(
            "activation",
            note="numbers stand behind the function: leaky_relu(negative_slope=0.2), "
            "clamp(min=-1, max=1)",
        ),
    ),
    ("other scalar operand addend", Alias("value")),
    (
        "act activationfn activationfunction nonlinearity",
        (Alias("activation"), Alias("hidden_state_activation")),
    ),
    (
        "usebias hasbias withbias addbias",
        (Alias("bias"), Alias("disable_bias", note=_OPPOSITE)),
    ),
    ("bias", Alias("disable_bias", note=_OPPOSITE)),
    ("nobias", Alias("disable_bias")),
    (
        "kernelinitializer weightinit kernelinit init initializer",
        Alias("weight_initializer"),
    ),
    ("biasinit", Alias("bias_initializer")),
    ("kernelregularizer regularizer", Alias("weight_regularizer")),
    (
        "l2 l2reg regularization",
        Alias(
            "weight_regularizer_constant", note="weight_regularizer=l2norm beside it"
        ),
    ),
    ("requiresgrad istrainable learnable", Alias("trainable")),
    ("freeze frozen", Alias("trainable", note=_OPPOSITE)),
    ("inputs input inputlayer inboundnodes source sources", Alias("input_layers")),
    ("inshape", Alias("input_shape")),
    ("shape", (Alias("target_shape"), Alias("input_shape"))),
    ("newshape outshape", Alias("target_shape")),
    ("dim axes", Alias("axis")),
    ("normalizedshape", Alias("axis", note="which names the axes that are normalized")),
    ("numsplits sections chunks numorsizesplits", Alias("split_number")),
    ("begin start", Alias("start_index")),
    ("end stop", Alias("end_index")),
    ("perm permutation order dims", Alias("direction")),
    ("maxlen maxlength seqlen sequencelength maxposition", Alias("max_timestep")),
    ("ignoreindex", Alias("ignore_label")),
    ("classweights weight weights", Alias("class_weight")),
    ("positiveweight positiveweights posweights", Alias("pos_weight")),
    ("smoothing labelsmooth", Alias("label_smoothing")),
    ("classaxis classdim channelaxis", Alias("axis")),
    ("power", Alias("exponent")),
    ("sparsegradients sparsegrad sparsegradient", Alias("sparse")),
    ("lorar rank adapterrank", Alias("lora_rank")),
    ("tiedto tieweights sharedwith sharewith", Alias("shared_from")),
    ("pooltype poolingtype", Alias("pooling")),
    ("method interpolation", (Alias("pooling"), Alias("upsample"))),
    ("returnseq", Alias("return_sequences")),
    ("runningmeanmomentum", Alias("momentum")),
    # Optimizers and schedules.
    (
        "lr alpha eta initialearningrate initiallearningrate baselr",
        (Alias("learning_rate"), Alias("max_learning_rate"), _OF_OPTIMIZER),
    ),
    ("learningrate", (Alias("max_learning_rate"), _OF_OPTIMIZER)),
    ("b1", Alias("beta1")),
    ("b2", Alias("beta2")),
    ("betas", Alias("beta1", note="the second of them is beta2")),
    ("eps", Alias("epsilon")),
    ("wd decay", Alias("weight_decay")),
    (
        "weightdecay",
        Alias("", note="the optimizer adamw has it, and each layer with weights"),
    ),
    ("gamma", Alias("decay_rate")),
    ("stepsize tmax", Alias("decay_steps")),
    ("etamin minlr", Alias("min_learning_rate")),
    ("etamax maxlr", Alias("max_learning_rate")),
    ("milestones boundaries", Alias("iteration")),
    # Models.
    ("batch bs batches minibatch", Alias("batch_size")),
    (
        "batchsize epochs",
        Alias("", note="it is a property of the model: set_property, or [Model]"),
    ),
    ("epoch numepochs nepochs nbepoch maxepochs iterations", Alias("epochs")),
    (
        "accumulationsteps gradientaccumulationsteps accumulategradbatches microbatch",
        Alias("micro_batches"),
    ),
    (
        "clipnorm maxnorm gradclip clipgradnorm gradientclipval maxgradnorm "
        "gradientclipping",
        Alias("clip_grad_by_norm"),
    ),
    (
        "clipvalue clipgradbyvalue clipgradvalue gradclipvalue maxvalue",
        (
            Alias("clip_value"),
            Alias("", note="it is a property of the optimizer: clip_value"),
        ),
    ),
    (
        "lrscale lrmult lrmultiplier learningratemultiplier",
        Alias("learning_rate_scale"),
    ),
    ("rho", Alias("alpha")),
    ("nthreads numthreads workers njobs", Alias("threads")),
    ("dropremainder", Alias("drop_last")),
    ("optimizer optim", Alias("", note="it is chosen with set_optimizer")),
    ("loss lossfn criterion", Alias("", note="the loss is the last layer")),
    (
        "scheduler lrscheduler schedule",
        Alias("", note="it is chosen with set_learning_rate_scheduler"),
    ),
    (
        "seed randomstate randomseed",
        (Alias("seed"), Alias("", note="it is given to Model(seed=…)")),
    ),
    ("momentum", Alias("", note="the optimizer sgd has it; of adam it is beta1")),
)
"""Properties of layers, optimizers, schedules and models."""

VALUES = _table(
    ("silu", Alias("swish")),
    ("linear", (Alias("none"), Alias("bilinear"))),
    ("identity no off null", Alias("none")),
    ("lrelu", Alias("leaky_relu")),
    ("logistic", Alias("sigmoid")),
    ("gelutanh gelunew geluapproximate fastgelu", Alias("tanh_gelu")),
    ("quickgelu", Alias("sigmoid_gelu")),
    ("hswish", Alias("hard_swish")),
    ("prelu", Alias("leaky_relu", note="the layer prelu learns its slopes")),
    ("hardtanh clip", Alias("clamp")),
    ("glorot glorotuniform xavier", Alias("xavier_uniform")),
    ("glorotnormal", Alias("xavier_normal")),
    ("kaiming kaiminguniform he", Alias("he_uniform")),
    ("kaimingnormal", Alias("he_normal")),
    ("lecun", Alias("lecun_normal")),
    ("constant", Alias("zero")),
    ("mirror reflection symmetric", Alias("reflect")),
    ("edge replication nearestedge", Alias("replicate")),
    ("adaptiveavg", Alias("adaptive_average")),
    ("one", Alias("ones")),
    ("avg mean averagepool", Alias("average")),
    ("maximum maxpool", Alias("max")),
    ("globalavg globalmean gap", Alias("global_average")),
    ("globalmaximum", Alias("global_max")),
    ("l2 ridge", Alias("l2norm")),
    ("nearestneighbor nearestneighbour", Alias("nearest")),
    ("blas default", Alias("fast")),
    ("deterministic reproducible exact", Alias("portable")),
    ("naive", Alias("plain")),
    ("flash flashattention", Alias("tiled")),
)
"""Words that a property is set to."""

OPTIMIZERS = _table(
    (
        "gd gradientdescent stochasticgradientdescent vanilla sgdoptimizer",
        Alias("sgd"),
    ),
    ("momentum sgdm sgdmomentum heavyball", Alias("sgd", "momentum=0.9")),
    ("nesterov nag", Alias("sgd", "momentum=0.9, nesterov=true")),
    ("adamoptimizer", Alias("adam")),
    ("adamwd adamweightdecay", Alias("adamw")),
    ("rms rmspropoptimizer", Alias("rmsprop")),
)
"""Types of optimizers."""

SCHEDULES = _table(
    ("cosineannealing cosineannealinglr cosinedecay sgdr", Alias("cosine")),
    ("exponentiallr exponentialdecay exp", Alias("exponential")),
    (
        "steplr multistep multisteplr piecewise piecewiseconstant "
        "piecewiseconstantdecay stepdecay",
        Alias("step"),
    ),
    ("linearlr lineardecay", Alias("linear")),
    ("fixed none constantlr", Alias("constant")),
)
"""Types of learning-rate schedules."""

ARGUMENTS = _table(
    (
        "numepochs nepochs nbepoch maxepochs",
        Alias("epochs"),
    ),
    ("validationdata valdata valid val", Alias("validation")),
    ("verbose", Alias("progress")),
    ("callback callbacks onepochend", Alias("on_epoch")),
    ("memory ram memorylimit limit", (Alias("budget"), Alias("memories"))),
    (
        "batchsize",
        Alias("", note="it is a property of the model: set_property(batch_size=…)"),
    ),
    (
        "learningrate lr",
        Alias("", note="it is a property of the optimizer: see set_optimizer"),
    ),
    ("optimizer", Alias("", note="it is chosen with set_optimizer")),
    ("loss lossfn", Alias("", note="the loss is the last layer that is added")),
    ("metrics", Alias("", note="evaluate returns loss and metric")),
)
"""Arguments of functions."""

_IN_MODEL = "it is a part of MODEL, and no option changes it"

OPTIONS = _table(
    ("batch bs b batches", Alias("--batch-size")),
    ("epoch numepochs nepochs maxepochs e", Alias("--epochs")),
    ("out outfile outputfile dest", (Alias("--output"), Alias("--save"))),
    ("savemodel model", (Alias("--save"), Alias("--output"))),
    ("output o", Alias("--save")),
    (
        "val valid validationdata valdata testdata",
        (Alias("--validation"), Alias("--data")),
    ),
    ("valsplit validsplit testsplit", Alias("--validation-split")),
    ("dataset input inputs train traindata x d", Alias("--data")),
    (
        "memory ram limit maxmemory memorylimit size",
        (Alias("--budget"), Alias("--capacity")),
    ),
    ("overhead maxslowdown", Alias("--max-overhead")),
    ("mcu device chip target", Alias("--board")),
    ("infer predict", Alias("--inference")),
    ("randomseed", Alias("--seed")),
    ("silent q", Alias("--quiet")),
    ("format fmt type", Alias("--to")),
    ("load loadweights ckpt w", Alias("--weights")),
    ("continue restart", Alias("--resume")),
    ("checkpointdir", Alias("--checkpoint")),
    ("front", Alias("--pareto")),
    ("timeout", Alias("--time-limit")),
    ("n top head", (Alias("--rows"), Alias("--top"))),
    (
        "lr learningrate optimizer optim momentum weightdecay threads",
        Alias("", note=_IN_MODEL),
    ),
)
"""Options of the command line, which begin with ``--``."""

COMMANDS = _table(
    ("eval test score validate", Alias("evaluate")),
    ("infer inference classify run forward", Alias("predict")),
    ("fit learn", Alias("train")),
    ("list models zoo", Alias("examples")),
    ("board targets devices", Alias("boards")),
    ("codegen convert", Alias("export")),
    ("view show plot visualize html", Alias("report")),
    ("memory pareto front", Alias("plan")),
    ("layout minimalloc", Alias("allocate")),
)
"""Commands of ``arena-ckpt``."""
